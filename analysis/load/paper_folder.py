"""Everything of `paper_results/`: every file with the model that checks it, and what judging needs in one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from analysis.load.authors import Authors, InnerProducts, Logs, MemoryCurves, WeightLoraFile, load_authors
from analysis.load.judgement import Judgement, load_judgement
from analysis.load.paper_files import DIRECTORY, unknown, validated
from analysis.load.published import (
    ClaimsFile,
    MetricExample,
    PublishedTable,
    Tolerances,
    load_claims,
    load_tables,
    load_tolerances,
)
from replication.errors import DataError

FILES: Mapping[str, type[BaseModel]] = {
    "claims.yaml": ClaimsFile,
    "e2e_challenge.yaml": PublishedTable,
    "e2e_metrics.yaml": MetricExample,
    "judgement.yaml": Judgement,
    "lora_e2e.yaml": PublishedTable,
    "lora_e2e_user_reports.yaml": PublishedTable,
    "solo_connection.yaml": PublishedTable,
    "tolerances.json": Tolerances,
    "weightlora.yaml": WeightLoraFile,
    "weightlora_inner_products.yaml": InnerProducts,
    "weightlora_logs.yaml": Logs,
    "weightlora_memory.yaml": MemoryCurves,
}


def load_folder(directory: str | Path = DIRECTORY) -> dict[str, BaseModel]:
    """Every file, checked. DataError names a file that no model reads, that is missing, or that is wrong."""
    folder = Path(directory)
    for path in sorted(folder.iterdir()):
        if path.name not in FILES and path.name != "README.md" and not path.name.startswith("."):
            raise DataError(f"{path}: {unknown('file', path.name, FILES)}")
    return {name: validated(model, folder / name) for name, model in FILES.items()}


@dataclass(frozen=True)
class Published:
    """Published figures and the constants of the verdicts."""

    directory: Path
    tables: tuple[PublishedTable, ...]
    claims: ClaimsFile
    tolerances: Tolerances
    authors: Authors
    judgement: Judgement


def load_published(directory: str | Path = DIRECTORY) -> Published:
    """Tables, claims, tolerances, the authors' files and the decision rule; DataError names file and field."""
    return Published(
        Path(directory),
        tuple(load_tables(directory)),
        load_claims(directory),
        load_tolerances(directory),
        load_authors(directory),
        load_judgement(directory),
    )
