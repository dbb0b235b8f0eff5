"""Write runs of the task forms that look like the pipeline's: made-up predictions, scores computed from them.

python tests/analysis/synthetic_tasks.py FOLDER     # FOLDER/cpu/<task>-<method>, FOLDER/quick/<form>-<method>
"""

from __future__ import annotations

import hashlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from replication.fileio import read_jsonl, write_json, write_jsonl, write_text

ROLES = ("query", "key", "value")
# metric key -> form, metric names in table order, primary, classes
TASKS: dict[str, tuple[str, tuple[str, ...], str, int]] = {
    "cola": ("classification", ("matthews_correlation",), "matthews_correlation", 2),
    "mrpc": ("classification", ("accuracy", "f1"), "f1", 2),
    "rte": ("classification", ("accuracy",), "accuracy", 2),
    "sst2": ("classification", ("accuracy",), "accuracy", 2),
    "mnli": ("classification", ("accuracy_matched", "accuracy_mismatched"), "accuracy_matched", 3),
    "stsb": ("regression", ("pearson", "spearman"), "spearman", 1),
    "squad_v1": ("question_answering", ("exact_match", "f1"), "f1", 0),
    "rouge": ("summarisation", ("rouge1", "rouge2", "rougeL", "rougeLsum"), "rougeL", 0),
    "acc_norm": ("multiple_choice", ("acc", "acc_norm"), "acc_norm", 4),
}
# key -> method, settings, adapters kept (None: all), rank, share of items it gets right
METHODS: dict[str, tuple[str, dict[str, Any], int | None, int, float]] = {
    "frozen": ("frozen", {}, 0, 0, 0.60),
    "full": ("full", {}, None, 0, 0.90),
    "lora": ("lora", {"rank": 8, "alpha": 32}, None, 8, 0.86),
    "weight_lora-k3": ("weight_lora", {"rank": 8, "keep": 3, "selection_steps": 60}, 3, 8, 0.82),
    "weight_lora-k6": ("weight_lora", {"rank": 8, "keep": 6, "selection_steps": 60}, 6, 8, 0.85),
    "weight_lora_plus": ("weight_lora_plus", {"rank": 4, "keep": 12, "selection_steps": 60}, 3, 16, 0.84),
    "random_lora-k3": ("random_lora", {"rank": 8, "keep": 3}, 3, 8, 0.76),
    "random_lora-k6": ("random_lora", {"rank": 8, "keep": 6}, 6, 8, 0.80),
    "dora": ("peft_baselines", {"name": "dora", "settings": {"r": 8}}, None, 8, 0.86),
    "adalora": ("peft_baselines", {"name": "adalora", "settings": {"init_r": 8}}, None, 8, 0.84),
    "vera": ("peft_baselines", {"name": "vera", "settings": {"r": 64}}, None, 1, 0.78),
}
BACKBONES = {"minilm-l6": (6, 384, 22_713_216), "microworld-deberta": (6, 96, 1_000_000),
             "microworld-bart": (2, 96, 1_100_000), "microworld-llama": (4, 96, 900_000),
             "deberta-v3-base": (12, 768, 184_000_000)}  # fmt: skip
CLASS_HEAD = 149_762


def write_task_runs(
    root: Path,
    *,
    profile: str = "cpu",
    backbone: str = "minilm-l6",
    tasks: Mapping[str, str] | Sequence[str] = ("cola", "mrpc", "rte", "stsb"),
    methods: Sequence[str] = tuple(METHODS),
    seeds: Sequence[int] = (18, 52, 1917),
    items: int = 120,
    quality: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    comparable: bool = True,
    licence: str = "CC BY 4.0",
) -> Path:
    """Write `root/profile/my-<task>-<method>/...` and return `root/profile`.

    `tasks` are metric keys, or corpus name -> metric key. `quality` overrides the share of right items, by experiment
    or by task.
    """
    named = tasks if isinstance(tasks, Mapping) else {name: name for name in tasks}
    for corpus, metric in named.items():
        for key in methods:
            method, config, kept, rank, right = METHODS[key]
            name = f"my-{corpus}-{key}"
            share = (quality or {}).get(name, (quality or {}).get(corpus, right))
            steps = {"steps": 200, **(training or {})}
            config = {**config, **((settings or {}).get(key, {}))}
            run = _Run(root / profile / name, backbone, corpus, metric, method, config, kept, rank, share, items)
            run.write(list(seeds), steps, comparable, licence)
    return root / profile


class _Run:
    def __init__(self, folder, backbone, corpus, metric, method, config, kept, rank, share, items):
        self.folder, self.backbone, self.corpus, self.metric = folder, backbone, corpus, metric
        self.method, self.config, self.kept, self.rank = method, config, kept, rank
        self.share, self.items = share, items
        self.form, self.names, self.primary, self.classes = TASKS[metric]

    def write(self, seeds, training, comparable, licence):
        by_seed = {}
        for seed in seeds:
            rng = np.random.default_rng(_number(self.folder.name, seed))
            rows = self.predictions(rng)
            write_jsonl(self.folder / "predictions" / f"seed-{seed}.jsonl", rows)
            by_seed[str(seed)] = {name: round(score(name, rows), 6) for name in self.names}
            place = self.folder / "training" / f"seed-{seed}"
            write_text(place / "curves.csv", _curves(rng, training["steps"], self.share))
            write_json(place / "record.json", self.record(seed, training, comparable, licence))
            if self.method in ("weight_lora", "weight_lora_plus", "random_lora"):
                write_json(place / "selection.json", self.selection(rng, training["steps"]))
        values = {name: [scores[name] for scores in by_seed.values()] for name in self.names}
        write_json(
            self.folder / "scores.json",
            {
                "profile": self.folder.parent.name,
                "experiment": self.folder.name,
                "form": self.form,
                "items": self.items,
                "metrics": list(self.names),
                "primary": self.primary,
                **{name: statistics.fmean(found) for name, found in values.items()},
                "spread": {name: statistics.stdev(found) if len(found) > 1 else None for name, found in values.items()},
                "seeds": by_seed,
                "approximate": [],
                "missing": [],
                "notes": [],
                "evaluation": f"of {self.metric}" if self.form == "multiple_choice" else "",
            },
        )

    def predictions(self, rng):
        fixed = np.random.default_rng(_number(self.corpus, 7))
        share = min(1.0, max(0.0, self.share + 0.01 * rng.standard_normal()))
        rows = []
        for index in range(self.items):
            row: dict[str, Any] = {"id": str(index)}
            right = bool(rng.random() < share)
            if self.form == "regression":
                true = round(5 * fixed.random(), 3)
                guess = true if right else 5 * rng.random()
                row |= {"prediction": round(float(guess + 0.3 * rng.standard_normal()), 6), "label": true}
            elif self.form in ("classification", "multiple_choice"):
                true = int(fixed.integers(self.classes))
                guess = true if right else int((true + 1 + rng.integers(self.classes - 1)) % self.classes)
                row |= {"prediction": guess, "label": true}
                if self.form == "classification":
                    row["logits"] = [0.0] * self.classes
                else:
                    row["log_likelihoods"] = [-float(index != guess) for index in range(self.classes)]
                    row["lengths"] = [1] * self.classes
                if self.metric == "mnli":
                    row["subset"] = "matched" if index % 2 else "mismatched"
            elif self.form == "question_answering":
                truth = ["the old mill", "a quiet lane", "the harbour"][index % 3]
                row |= {"prediction": truth if right else "the pub", "answers": [truth], "no_answer_score": 0.0}
            else:
                truth = f"{['old', 'new', 'small'][index % 3]} restaurant {index} opens at the harbour"
                row |= {"prediction": truth if right else f"restaurant {index} closes", "references": [truth]}
            rows.append(row)
        return rows

    @property
    def shape(self):
        """Blocks, width, parameters; adapters are on query, key and value of every block."""
        return BACKBONES[self.backbone]

    def adapters(self):
        blocks, _, _ = self.shape
        found = []
        stacks = {"microworld-bart": ("model.encoder.layers.{}.self_attn.", "model.decoder.layers.{}.self_attn.",
                                      "model.decoder.layers.{}.encoder_attn.")}  # fmt: skip
        for stem in stacks.get(self.backbone, ("encoder.layer.{}.attention.self.",)):
            for block in range(blocks):
                for role in ROLES:
                    module = stem.format(block) + role
                    found.append(
                        {"index": len(found), "module": module, "label": "whole", "block": block, "role": role}
                    )
        return found

    def counts(self, kept, rank):
        _, width, base = self.shape
        one = 2 * width * rank
        everywhere = len(self.adapters())
        head = CLASS_HEAD if self.form in ("classification", "regression") else 0
        adapter = base if self.method == "full" else one * (everywhere if kept is None else kept)
        if self.config.get("name") == "dora":
            adapter += everywhere * width
        trainable = adapter + head
        total = base + head + (0 if self.method in ("full", "frozen") else adapter)
        return {"adapter": adapter, "importance": 0, "head": head, "trainable": trainable, "total": total}

    def record(self, seed, training, comparable, licence):
        counts = self.counts(self.kept, self.rank)
        start = {}
        if self.method in ("weight_lora", "weight_lora_plus"):
            before = self.counts(None, self.config["rank"])
            many = len(self.adapters())
            start = {"counts_at_start": {**before, "importance": many, "trainable": before["trainable"] + many}}
        return {
            "schema_version": 1,
            "profile": self.folder.parent.name,
            "experiment": self.folder.name,
            "backbone": self.backbone,
            "task": self.corpus,
            "method": self.method,
            "method_config": {**self.config, "init_seed": seed},
            "training": {
                "batch_size": 16,
                "accumulation_steps": 1,
                "max_length": 64,
                "warmup_steps": 20,
                "learning_rate": 0.001,
                **training,
            },
            "decoding": None,
            "seed": seed,
            "corpus": {
                "name": self.corpus,
                "label": f"{self.corpus} corpus, whole",
                "form": self.form,
                "metric": self.metric,
                "reported_split": "dev",
                "comparable": comparable,
                "licence": licence,
                "note": "",
                "train_examples": 2000,
                "dev_examples": 100,
                "test_items": self.items,
                "sha256": {"train.tsv": _digest(self.corpus)},
            },
            "counts": counts,
            **start,
            "result": {"steps": training["steps"], "tokens_seen": 1000, "final_loss": 0.4, "dev_loss": 0.5},
            "adapter": {"bytes": 4 * counts["adapter"] + 512, "sha256": _digest(f"{self.folder.name}{seed}")},
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "conditions": {"cpu": "Model X", "blas": "MKL", "threads": 1, "torch_build": "2.13.0+cpu"},
            "tolerances_sha256": _digest("tolerances"),
        }

    def selection(self, rng, steps):
        """Late value projections tend to win; losers fall to zero at the second step and stay there."""
        adapters, keep = self.adapters(), self.config["keep"]
        pull = np.array([a["block"] / 3 + 2.0 * (a["role"] == "value") for a in adapters])
        drift = pull + 0.8 * rng.standard_normal(len(adapters))
        if self.method == "random_lora":
            drift = rng.random(len(adapters))
        order = [int(index) for index in np.argsort(-drift, kind="stable")]
        rounds = [keep, keep // 2, keep // 4] if self.method == "weight_lora_plus" else [keep]
        rank, expansions = self.config["rank"], []
        one = 2 * self.shape[1]
        for number, (before, after) in enumerate(pairwise(rounds)):
            expansions.append(
                {
                    "step": 90 + 30 * number,
                    "kind": "qr",
                    "kept": sorted(order[:after]),
                    "rank_before": rank,
                    "rank_after": 2 * rank,
                    "parameters_before": before * rank * one,
                    "parameters_after": after * 2 * rank * one,
                }
            )
            rank *= 2
        survivors = sorted(order[: rounds[-1]])
        trained = self.method != "random_lora"
        last = expansions[-1]["step"] if expansions else 60
        weights = []
        for step in range(1, last + 1):
            kept = set(order[: rounds[sum(step >= expansion["step"] for expansion in expansions)]])
            pull = 0.02 * step * (drift - 1)
            weights.append([round(1.0 + p if i in kept or step < 2 else 0.0, 6) for i, p in enumerate(pull)])
        return {
            "method": self.method,
            "keep": keep,
            "selection_steps": 60 if trained else None,
            "adapters": adapters,
            "trace": {"steps": list(range(1, last + 1)), "weights": weights}
            if trained
            else {"steps": [], "weights": []},
            "projections": list(range(2, 61)) if trained else [],
            "removed_at": 60 if trained else None,
            "survivors": survivors,
            "final_ranks": {str(index): rank for index in survivors},
            "expansions": expansions,
        }


def score(name: str, rows: list[dict[str, Any]]) -> float:
    """One metric of made-up predictions, the plain way."""
    if name.startswith("rouge") or "answers" in rows[0]:
        truth = [(row.get("answers") or row["references"])[0] for row in rows]
        return statistics.fmean(float(row["prediction"] == text) for row, text in zip(rows, truth, strict=True))
    if name.startswith("accuracy_"):
        rows = [row for row in rows if row["subset"] == name.removeprefix("accuracy_")]
    said, true = (np.array([row[field] for row in rows], dtype=float) for field in ("prediction", "label"))
    if name == "pearson":
        return float(np.corrcoef(said, true)[0, 1])
    if name == "spearman":
        return float(stats.spearmanr(said, true).statistic)
    if name == "f1":
        hit = float(((said == 1) & (true == 1)).sum())
        return 2 * hit / max(1.0, float((said == 1).sum() + (true == 1).sum()))
    if name == "matthews_correlation":
        return float(np.corrcoef(said, true)[0, 1])
    return float((said == true).mean())


def write_baseline(profile: Path, task: str, kind: str = "majority", backbone: str = "minilm-l6") -> Path:
    """`profile/my-<task>-baseline`: one seed, nothing trained, no logits in the predictions; on others' items."""
    folder = profile / f"my-{task}-baseline"
    run = _Run(folder, backbone, task, task, "baseline", {"kind": kind}, 0, 0, 0.5, 120)
    run.write([0], {"steps": 10}, True, "CC BY 4.0")
    predictions = folder / "predictions/seed-0.jsonl"
    rows = [{key: row[key] for key in ("id", "prediction", "label")} for row in read_jsonl(predictions)]
    write_jsonl(predictions, rows)
    path = folder / "training/seed-0/record.json"
    none = {"adapter": 0, "importance": 0, "head": 0, "trainable": 0, "total": 0}
    result = {"steps": 0, "tokens_seen": 0, "final_loss": None, "dev_loss": None}
    changed = {"method_config": {"kind": kind}, "training": {"steps": 0}, "counts": none, "result": result}
    write_json(path, {**run.record(0, {"steps": 0}, True, "CC BY 4.0"), **changed})
    write_text(folder / "training/seed-0/curves.csv", "step,loss,dev_loss,learning_rate\n0,,,\n")
    return folder


def write_search(
    folder: Path, case: str, *, method: str, task: str, backbone: str, best: float = 0.001, **more
) -> Path:
    """`folder/<case>.json`: a search as the pipeline writes it."""
    tried = [{"learning_rate": rate, "held_out_loss": 0.5 + abs(rate - best)} for rate in (0.0001, 0.001, 0.01)]
    content = {"plan": "p", "backbone": backbone, "task": task, "method": method, "settings": {}, "steps": 50}
    return write_json(folder / f"{case}.json", {**content, "tried": tried, "best": best, **more})


def write_memory(folder: Path, backbone: str = "minilm-l6") -> Path:
    """`folder/memory.json`: peaks that grow with K."""
    rows = [
        {"keep": keep, "phase2_peaks_bytes": [400_000_000 + 12_000_000 * keep], "baseline_bytes": 380_000_000}
        for keep in (1, 3, 6, 12, 18)
    ]
    shape = {"backbone": backbone, "batch": 16, "length": 64, "rank": 8, "all_adapters_peaks_bytes": [640_000_000]}
    return write_json(folder / "memory.json", {**shape, "rows": rows})


def _curves(rng, steps, share):
    lines = ["step,loss,dev_loss,learning_rate"]
    for step in range(0, steps + 1, 10):
        loss = "" if step == 0 else f"{1.2 - share * step / steps + 0.02 * rng.standard_normal():.6f}"
        lines.append(f"{step},{loss},{1.3 - share * step / steps:.6f},0.001")
    return "\n".join(lines) + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(name: str, seed: int) -> int:
    return int(_digest(f"{name}/{seed}")[:8], 16)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(write_task_runs(folder, quality={"rte": 0.55}))
    print(
        write_task_runs(folder, profile="quick", backbone="microworld-deberta", tasks={"microworld_sentiment": "sst2"})
    )
