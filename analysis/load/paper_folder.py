"""Every file of `paper_results/` and the model that checks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from analysis.load.authors import InnerProducts, Logs, MemoryCurves, WeightLoraFile
from analysis.load.judgement import Judgement
from analysis.load.paper_files import DIRECTORY, unknown, validated
from analysis.load.published import ClaimsFile, MetricExample, PublishedTable, Tolerances
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
