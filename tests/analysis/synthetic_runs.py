"""Write a runs folder that looks like the pipeline's: made-up texts and curves, BLEU computed from the texts.

python tests/analysis/synthetic_runs.py FOLDER     # FOLDER/quick/{full,frozen,lora,solo_connection}
"""

from __future__ import annotations

import hashlib
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from replication.fileio import write_json, write_jsonl, write_text
from replication.metrics.bleu import bleu

METRICS = ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
NAMES = ("Alimentum", "The Vaults", "Cotto", "Blue Spice", "The Mill", "Zizzi", "Aromi", "Clowns")
FOODS = ("Chinese", "English", "Fast food", "French", "Indian", "Italian")
AREAS = ("city centre", "riverside")
PRICES = ("cheap", "moderate", "high", "less than £20", "£20-25", "more than £30")

# method, settings, adapter parameters of a small GPT-2 (8 blocks, width 96), share of words kept, final loss
METHODS: dict[str, tuple[str, dict[str, Any], int, float, float]] = {
    "full": ("full", {}, 952_032, 0.97, 0.62),
    "frozen": ("frozen", {}, 0, 0.02, 4.10),
    "lora": ("lora", {"rank": 4, "alpha": 32, "dropout": 0.1, "targets": ["query", "value"]}, 12_288, 0.92, 0.85),
    "solo_connection": (
        "solo_connection",
        {"rank": 12, "skip_length": 2, "dropout": 0.1, "homotopy_parameter": 0.1, "sparsity": 0.0},
        2_739,
        0.85,
        1.10,
    ),
}
VERSIONS = {
    "python": "3.11.7",
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "accelerate": "1.15.0",
    "peft": "0.21.2",
}


def write_runs(
    root: Path,
    *,
    profile: str = "quick",
    experiments: Sequence[str] = tuple(METHODS),
    seeds: Sequence[int] = (18, 52, 1917),
    items: int = 40,
    java: bool = True,
    label: str = "embedded synthetic corpus",
    backbone: str = "microworld-gpt2",
    counts: dict[str, int] | None = None,
    methods: dict[str, str] | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
    quality: dict[str, float] | None = None,
    base_parameters: int = 952_032,
    costs: bool = True,
    blocks: int = 8,
) -> Path:
    """Write `root/profile/<experiment>/...` and return `root/profile`.

    `frozen` has one seed, as in the pipeline; a name that is no method is Solo Connection unless `methods` says
    otherwise.
    """
    for name in experiments:
        kind = (methods or {}).get(name, name if name in METHODS else "solo_connection")
        method, config, adapter, kept, floor = METHODS[kind]
        used = list(seeds)[:1] if method == "frozen" else list(seeds)
        _write_experiment(
            root / profile / name,
            method=method,
            config={**config, **(settings or {}).get(name, {})},
            adapter=(counts or {}).get(name, adapter),
            kept=(quality or {}).get(name, kept),
            floor=floor,
            seeds=used,
            items=items,
            java=java,
            label=label,
            backbone=backbone,
            base=base_parameters,
            costs=costs,
            blocks=blocks,
        )
    return root / profile


def _write_experiment(
    folder: Path,
    *,
    method: str,
    config: dict[str, Any],
    adapter: int,
    kept: float,
    floor: float,
    seeds: list[int],
    items: int,
    java: bool,
    label: str,
    backbone: str,
    base: int,
    costs: bool,
    blocks: int,
) -> None:
    profile, name = folder.parent.name, folder.name
    by_seed = {}
    for seed in seeds:
        rng = np.random.default_rng(_number(name, seed))
        rows = _predictions(rng, items, min(1.0, kept + 0.01 * rng.standard_normal()))
        write_jsonl(folder / "predictions" / f"seed-{seed}.jsonl", rows)
        by_seed[str(seed)] = _scores(rows, java)
        steps = 0 if method == "frozen" else 250
        curves = _curves(rng, steps, floor, config if method == "solo_connection" else None, blocks)
        write_text(folder / "training" / f"seed-{seed}" / "curves.csv", curves)
        record = _record(profile, name, method, config, adapter, base, seed, items, label, backbone, steps, floor)
        write_json(folder / "training" / f"seed-{seed}" / "record.json", record)
        weights = folder / "adapter" / f"seed-{seed}" / "adapter_model.safetensors"
        write_text(weights, "x" * min(1000, record["adapter"]["bytes"]))
    write_json(folder / "scores.json", _metrics(profile, name, items, by_seed, java))
    if costs:
        for stage, seconds in (("training", 24.5), ("generation", 11.25)):
            write_json(
                folder / "cost" / f"{stage}.json",
                {
                    str(seed): {
                        "seconds": seconds + index,
                        "cpu_seconds": 40.0 + index,
                        "tokens_per_second": 5120.5,
                        "peak_memory_bytes": 912_000_000,
                        "machine": {"cpu": "Model X", "threads": 2},
                        "git_revision": "0123456789abcdef",
                    }
                    for index, seed in enumerate(seeds)
                },
            )


def _predictions(rng: np.random.Generator, items: int, kept: float) -> list[dict[str, Any]]:
    """The same items for every experiment; predictions are a reference with words lost or replaced."""
    fixed = np.random.default_rng(7)
    rows = []
    for index in range(items):
        name = f"{NAMES[index % len(NAMES)]} {index}"
        food, area, price = (options[fixed.integers(len(options))] for options in (FOODS, AREAS, PRICES))
        references = [
            f"{name} is a {food} restaurant in the {area} with a {price} price range.",
            f"In the {area} there is a restaurant called {name}. It serves {food} food and is {price}.",
            f"{name}, a {price} place, serves {food} food in the {area} area.",
        ]
        source = references[index % 3].split()
        noise = ["the", "of", "restaurant", "<b>", "a", "pub", "near", "and"]
        words = [word if rng.random() < kept else noise[rng.integers(len(noise))] for word in source]
        rows.append(
            {
                "mr": f"name[{name}], food[{food}], priceRange[{price}], area[{area}]",
                "context": f"name : {name} | food : {food} | price : {price} | area : {area}",
                "prediction": " ".join(words),
                "references": references,
            }
        )
    return rows


def _scores(rows: list[dict[str, Any]], java: bool) -> dict[str, float | None]:
    value = bleu([row["prediction"] for row in rows], [row["references"] for row in rows])
    return {
        "BLEU": round(value, 6),
        "NIST": round(9 * value, 6),
        "METEOR": round(0.12 + 0.4 * value, 6) if java else None,
        "ROUGE_L": round(0.2 + 0.65 * value, 6),
        "CIDEr": round(3.1 * value, 6),
    }


def _metrics(profile: str, name: str, items: int, by_seed: dict[str, Any], java: bool) -> dict[str, Any]:
    def over_seeds(function: Any, least: int, metric: str) -> float | None:
        values = [scores[metric] for scores in by_seed.values()]
        return None if None in values or len(values) < least else function(values)

    return {
        "profile": profile,
        "experiment": name,
        "items": items,
        **{metric: over_seeds(statistics.fmean, 1, metric) for metric in METRICS},
        "spread": {metric: over_seeds(statistics.stdev, 2, metric) for metric in METRICS},
        "seeds": by_seed,
        "approximate": [] if java else ["ROUGE_L", "CIDEr"],
        "missing": [] if java else ["METEOR"],
    }


def _curves(rng: np.random.Generator, steps: int, floor: float, solo: dict[str, Any] | None, blocks: int) -> str:
    """curves.csv: a row at step 0 with only the dev loss, then every 5 steps; the dev loss every 50."""
    start = solo.get("homotopy_parameter") if solo else None
    skip = solo["skip_length"] if solo else 0
    ends = range(2 * skip, blocks + 1, skip) if solo else ()
    links = [f"{end - skip}->{end}" for end in ends]
    kinds = (["homotopy_parameter"] if start is not None else []) + ["homotopy_vector_norm"]
    columns = [f"{kind}[{link}]" for kind in kinds for link in links]
    lines = [",".join(["step", "loss", "dev_loss", "learning_rate", *columns])]
    loss_at_start = 5.2
    for step in range(0, steps + 1, 5):
        progress = 1 - np.exp(-step / 45)
        smooth = loss_at_start + (floor - loss_at_start) * progress
        loss = "" if step == 0 else f"{smooth + 0.5 + 0.06 * rng.standard_normal():.6f}"
        dev = f"{smooth + 0.05:.6f}" if step % 50 == 0 else ""
        if steps == 0:
            dev = f"{floor:.6f}"
        rate = 0.002 * min(step / 25, (steps - step) / max(1, steps - 25)) if steps else 0.0
        state = []
        for kind in kinds:
            for index in range(len(links)):
                grown = progress * (index + 1)
                value = start + 0.05 * grown if kind == "homotopy_parameter" else 0.9 * grown
                state.append(f"{value + 0.002 * rng.standard_normal() * (step > 0):.6f}")
        lines.append(",".join([str(step), loss, dev, f"{rate:.8f}", *state]))
    return "\n".join(lines) + "\n"


def _record(
    profile: str,
    name: str,
    method: str,
    config: dict[str, Any],
    adapter: int,
    base: int,
    seed: int,
    items: int,
    label: str,
    backbone: str,
    steps: int,
    floor: float,
) -> dict[str, Any]:
    total = base if method in ("full", "frozen") else base + adapter
    return {
        "schema_version": 1,
        "profile": profile,
        "experiment": name,
        "backbone": backbone,
        "task": "microworld-e2e" if label.startswith("embedded") else "e2e",
        "method": method,
        "method_config": config,
        "training": {
            "steps": 250,
            "batch_size": 16,
            "learning_rate": 0.002,
            "warmup_steps": 25,
            "weight_decay": 0.01,
            "label_smoothing": 0.1,
        },
        "decoding": None,
        "seed": seed,
        "corpus": {
            "name": "microworld" if label.startswith("embedded") else "e2e",
            "label": label,
            "train_examples": 2400,
            "dev_examples": 200,
            "test_items": items,
            "sha256": {"trainset.csv": _digest("train")},
        },
        "counts": {"adapter": adapter, "importance": 0, "head": 0, "trainable": adapter, "total": total},
        "result": {
            "steps": steps,
            "tokens_seen": steps * 480,
            "final_loss": floor + 0.5 if steps else None,
            "dev_loss": floor + 0.05,
        },
        "adapter": {"bytes": 4 * adapter + 512, "sha256": _digest(f"{name}{seed}")},
        "versions": VERSIONS,
        "conditions": {"cpu": "Model X", "blas": "MKL", "threads": 2, "torch_build": "2.13.0+cpu"},
        "tolerances_sha256": _digest("tolerances"),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(name: str, seed: int) -> int:
    return int(_digest(f"{name}/{seed}")[:8], 16)


if __name__ == "__main__":
    print(write_runs(Path(sys.argv[1])))
