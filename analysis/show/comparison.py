"""The comparison of one profile as one JSON value: claims with their verdicts, published cells with measured ones.

It takes seconds to compute, so it is kept under `.cache/compare/` with the hash of everything it follows from: runs,
dvc.lock, gold answers, searches, measurements, published figures, and the code. The report writes it, `replicate
compare` reads it; the first command computes it, and changed input recomputes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.load.evidence import lock_file
from analysis.load.paper_files import DIRECTORY
from analysis.load.runs import params_file
from replication.fileio import write_json

SCHEMA_VERSION = 3
CODE = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "pandas", "scipy")


def comparison(profile: str, root: str | Path = ".", replicates: Mapping[Any, Any] | None = None) -> dict[str, Any]:
    """`comparison`: the object that `replicate compare --json` prints; `lines`: each claim's headline and seeds;
    `decisive`: the verdicts that one task decides, as a sentence.

    From runs/, searches/ and measurements/ under `root`, or as it was kept. `replicates` are those of a study of the
    same runs, so that nothing is resampled twice.
    """
    path, key = Path(root) / ".cache" / "compare" / f"{profile}.json", inputs_hash(profile, root)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return dict(kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = {"key": key, **_computed(profile, Path(root), replicates or {})}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    except OSError:
        pass  # a folder that cannot be written keeps nothing
    return found


def inputs_hash(profile: str, root: str | Path = ".") -> str:
    """sha256 over the name and content of every file that the comparison follows from, and the code's versions."""
    digest = hashlib.sha256(" ".join(f"{name} {version(name)}" for name in PACKAGES).encode())
    for path in _inputs(profile, Path(root)):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
        digest.update(f"\n{path.as_posix()} {content}".encode())
    return digest.hexdigest()


def _inputs(profile: str, root: Path) -> Iterator[Path]:
    for name in ("runs", "gold", "searches", "measurements"):
        folder = root / name / profile
        for path in sorted(folder.rglob("*")):
            if path.relative_to(folder).parts[1:2] != ("adapter",) and path.is_file():
                yield path
    yield lock_file(root / "runs" / profile)  # decides which runs are stale
    yield params_file(root / "runs" / profile)  # which are whole
    yield from sorted(DIRECTORY.glob("*.*"))
    for package in ("analysis", "replication"):
        yield from sorted((CODE / package).rglob("*.py"))


def _computed(profile: str, root: Path, replicates: Mapping[Any, Any]) -> dict[str, Any]:
    from analysis.judge.claims import load_bench
    from analysis.judge.published_vs_measured import compared_cells
    from analysis.load.runs import load_profile
    from analysis.show.claim_tables import claim_rows, decisive_line

    runs, searches, measurements = (root / name / profile for name in ("runs", "searches", "measurements"))
    loaded = load_profile(runs)
    bench = load_bench(profile, loaded, searches, measurements)
    bench.study.keep(replicates)
    rows = claim_rows(bench.verdicts, profile, {experiment.name: experiment.seeds for experiment in loaded})
    problems = [f"{e.name} ({e.status}): {problem}" for e in loaded for problem in e.problems]
    return {
        "comparison": {
            "schema_version": SCHEMA_VERSION,
            "profile": profile,
            "comparable": bench.why_not is None,
            "why_not_comparable": bench.why_not,
            "claims": [row.as_json() for row in rows],
            "sensitivity": {entry.claim.id: dict(entry.variants) for entry in bench.sensitivity},
            "published_vs_measured": [cell.as_json() for cell in compared_cells(bench.study, bench.published)],
            "problems": [*problems, *bench.broken],
        },
        "lines": [{"headline": row.headline, "seeds": row.seeds_line} for row in rows],
        "decisive": decisive_line(bench.sensitivity),
    }
