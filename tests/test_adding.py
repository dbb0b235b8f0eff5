"""The pages on adding something: short, complete, and their examples work as they stand."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from analysis.judge import claims, solo_claims
from analysis.judge.study import Study
from analysis.load.paper_folder import load_published
from analysis.load.runs import load_profile
from replication.backbones import catalogue, loading
from replication.corpora import source_table
from replication.methods.shared import registry

ROOT = Path(__file__).resolve().parents[1]
THINGS = ("method", "task", "metric", "corpus", "claim", "figure", "backbone")


def page(thing):
    return (ROOT / "docs" / f"add_a_{thing}.md").read_text(encoding="utf-8")


def blocks(thing, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```$", page(thing), flags=re.MULTILINE | re.DOTALL)


def run(thing, **names):
    """Every Python block of a page, in one namespace."""
    for source in blocks(thing):
        exec(compile(source, f"add_a_{thing}.md", "exec", dont_inherit=True), names)
    return names


def test_there_is_a_page_for_each_and_no_other():
    assert sorted(path.stem for path in (ROOT / "docs").glob("add_a_*.md")) == sorted(
        f"add_a_{name}" for name in THINGS
    )


@pytest.mark.parametrize("thing", THINGS)
def test_a_page_has_at_most_60_lines_and_names_files_that_exist(thing):
    text = page(thing)
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 140
    new = re.findall(r"^# (\S+/\S+\.py)$", text, flags=re.MULTILINE)
    for name in re.findall(r"`([\w/]+/[\w.]+\.(?:py|yaml|json|md))`", text):
        assert name in new or (ROOT / name).is_file(), name


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("scratch")
def test_a_method(monkeypatch):
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    sys.modules["shift_example"] = module = type(sys)("shift_example")  # a dataclass looks its module up
    try:
        names = run("method", __name__=module.__name__)
    finally:
        del sys.modules["shift_example"]
    assert names["broken"] == []


def test_a_task(tiny_gpt2):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", *["Question", ":", "Answer", "Is", "rain", "wet", "?", "ice", "hot", "no", "yes"]]
    plain = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", unk_token="<unk>")
    run("task", tokenizer=tokenizer, model=tiny_gpt2)


def test_a_metric(monkeypatch, tmp_path):
    import replication.metrics

    file, check = blocks("metric")
    (tmp_path / "words.py").write_text(file)
    monkeypatch.setattr(replication.metrics, "__path__", [*replication.metrics.__path__, str(tmp_path)])
    try:
        exec(check, {})
    finally:
        sys.modules.pop("replication.metrics.words", None)
        vars(replication.metrics).pop("words", None)


@pytest.mark.usefixtures("scratch")
def test_a_corpus(monkeypatch):
    monkeypatch.setattr(source_table, "FILES", dict(source_table.FILES))
    assert run("corpus")["corpus"].comparable


def test_a_claim(monkeypatch, tmp_path):
    monkeypatch.setattr(claims, "JUDGES", dict(claims.JUDGES))
    folder = shutil.copytree(ROOT / "paper_results", tmp_path / "paper_results")
    entry = yaml.safe_load(blocks("claim", "yaml")[0])
    content = yaml.safe_load((folder / "claims.yaml").read_text(encoding="utf-8"))
    content["claims"] += entry
    (folder / "claims.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    run("claim", JUDGES=claims.JUDGES)
    published, runs = load_published(folder), load_profile(ROOT / "runs/quick", ["solo_connection"])
    (claim,) = (found for found in published.claims.claims if found.id == "solo-5")
    quick, judged = (
        claims.JUDGES[claim.key](claims.Bench(Study.of(runs, profile=profile), published, None), claim)
        for profile in ("quick", "mine")
    )
    assert quick.verdict == "not_tested"
    assert (judged.verdict, judged.outcome, judged.reason) == ("counted", "holds", "solo_connection: 0.27 %")
    assert set(solo_claims.JUDGES) <= set(claims.JUDGES)


@pytest.mark.usefixtures("scratch")
def test_a_figure(tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to(ROOT / "runs")
    run("figure", folder=tmp_path)
    assert {path.suffix for path in tmp_path.glob("scores_by_seed.*")} == {".svg", ".png"}


def test_a_backbone(monkeypatch, tmp_path):
    folder = shutil.copytree(loading.CONFIGS, tmp_path / "configs")
    (configuration,) = blocks("backbone", "json")
    (folder / "distilgpt2.json").write_text(json.dumps(json.loads(configuration)))
    monkeypatch.setattr(loading, "CONFIGS", folder)
    monkeypatch.setitem(catalogue.BACKBONES, "distilgpt2", None)  # taken out again afterwards
    run("backbone")
