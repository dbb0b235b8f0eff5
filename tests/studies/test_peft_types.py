"""docs/peft_types.md is what the module counts."""

import pytest

from replication.methods.peft_baselines import rival_names
from studies import peft_types


@pytest.fixture(scope="module")
def models():
    return peft_types.shapes()


def rows(text):
    return {line.split("`")[1]: line for line in text.splitlines(keepends=True) if line.startswith("| `")}


def test_every_type_has_a_row():
    assert list(rows(peft_types.PAGE.read_text())) == rival_names()


@pytest.mark.parametrize(
    "name", ["lora", "vera", "ia3", "ln_tuning", "lokr", "prompt_tuning", "xlora", "adamss", "cpt"]
)
def test_a_row_is_what_is_counted(name, models):
    assert peft_types.row(name, models) == rows(peft_types.PAGE.read_text())[name]


def test_counts_follow_closed_forms(models):
    width, blocks, key = 2048, 16, 512
    assert peft_types.counted("prompt_tuning", "Llama", models["Llama"]) == (20 * width, "")
    assert peft_types.counted("prefix_tuning", "Llama", models["Llama"]) == (20 * blocks * 2 * key, "")
    assert peft_types.counted("adaption_prompt", "Llama", models["Llama"]) == (blocks * (10 * width + 1), "")
    assert peft_types.counted("trainable_tokens", "GPT-2", models["GPT-2"]) == (4 * 768, "")


@pytest.mark.slow
def test_the_page_is_up_to_date(capsys, tmp_path, monkeypatch):
    assert peft_types.main(["--check"]) == 0
    page = peft_types.PAGE.read_text()
    monkeypatch.setattr(peft_types, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(peft_types, "page", lambda: page)
    assert peft_types.main(["--check"]) == 1
    assert "python -m studies.peft_types" in capsys.readouterr().err
    assert peft_types.main([]) == 0
    assert peft_types.PAGE.read_text() == page
