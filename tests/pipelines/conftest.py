"""A small project in which stages run within seconds: rows of two tasks, backbones with fresh weights, no dropout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from replication.fileio import write_json, write_jsonl, write_text

SHORT = {"steps": 5, "batch_size": 4, "warmup_steps": 1, "eval_every": 2, "checkpoint_every": 1, "log_every": 1}
KEYS = ("sentiment-lora", "sentiment-weight-lora", "headlines-lora")
COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
BACKBONES = {"microworld-deberta": "sentiment", "microworld-bart": "headlines"}
WORDS = ("the mill is cheap", "anna ate pasta", "the pub is near", "food is good", "is it bad", "the river")


def rows_of(task, split, count):
    """Rows that say their split, and differ in length."""
    texts = [f"{split} {n} {' '.join(WORDS[: 1 + n % len(WORDS)])}" for n in range(count)]
    if task == "headlines":
        return [{"id": f"{split}-{n}", "document": t, "summary": WORDS[n % len(WORDS)]} for n, t in enumerate(texts)]
    return [{"id": f"{split}-{n}", "text": t, "pair": None, "label": n % 2} for n, t in enumerate(texts)]


@pytest.fixture(scope="session")
def small_project(tmp_path_factory):
    import torch

    from replication.backbones import build_fresh, get_backbone
    from replication.backbones.vocabularies import special_tokens, train_tokenizer
    from replication.tasks import get_form

    root, home = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("small")
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["experiments"] = {key: {**content["experiments"][key], "seeds": [18]} for key in KEYS}
    for experiment in content["experiments"].values():
        experiment["search"] = None
    content["experiments"]["sentiment-lora"]["seeds"] = [18, 52]
    content["methods"]["weight_lora"]["k3"].update(keep=2, selection_steps=3)
    for settings in (content["methods"]["lora"]["r4-qkv"], content["methods"]["weight_lora"]["k3"]):
        settings["dropout"] = 0.0
    for backbone, task in BACKBONES.items():
        content["tasks"][task]["training"].update(SHORT)
        known, rows = get_backbone(backbone), rows_of(task, "train", 12)
        texts = [text for row in rows for text in row.values() if isinstance(text, str)]
        tokenizer = train_tokenizer(texts, 290, known.separator, architecture=known.architecture)
        ids = special_tokens(known.architecture, known.separator).config_ids(tokenizer)
        torch.manual_seed(0)
        model = build_fresh(backbone, vocab_size=len(tokenizer), **ids)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout", "dropout"):
            if hasattr(model.config, name):
                setattr(model.config, name, 0.0)
        model.save_pretrained(home / "weights" / backbone)
        tokenizer.save_pretrained(home / "weights" / backbone)
        folder, form = home / "prepared/quick" / task, content["tasks"][task]["form"]
        dev = 0 if task == "headlines" else 5  # the paper profile holds no dev rows out for BART
        for split, count in (("train", 12), ("dev", dev), ("test", 6)):
            write_jsonl(folder / f"{split}.jsonl", rows_of(task, split, count))
        write_jsonl(home / f"gold/quick/{task}.jsonl", get_form(form).gold(rows_of(task, "test", 6)))
        card = {"name": task, "label": task, "form": form, "metric": "sst2", "sha256": {"nyu-mll/glue": COMMIT}}
        counts = {"train_examples": 12, "dev_examples": dev, "test_items": 6}
        write_json(folder / "corpus.json", {**card, "labels": None, **counts})
    shutil.copytree(root / "paper_results", home / "paper_results")
    write_text(home / "params.yaml", yaml.safe_dump({**content, "searches": {}, "memory": None}))
    return home


@pytest.fixture
def small_home(small_project, tmp_path, monkeypatch):
    """A copy of the small project, which is the working folder."""
    home = tmp_path / "home"
    shutil.copytree(small_project, home)
    monkeypatch.chdir(home)
    return home
