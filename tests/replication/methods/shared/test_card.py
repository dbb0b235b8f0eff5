"""The model card: what it says, that nothing in a name becomes markup, and what it refuses."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import ConfigError
from replication.methods.shared.card import SMALL, UNKNOWN, card_facts, render_card

DESCRIPTION = {
    "method": "lora",
    "config": {"rank": 4, "targets": ["query"]},
    "base": {"class": "GPT2LMHeadModel", "width": 1024, "blocks": 24},
    "parameter_count": 393_216,
}
FACTS = {
    "base_model": "openai-community/gpt2-medium",
    "data": "E2E NLG",
    "profile": "cpu",
    "seed": 18,
    "dev_loss": 1.25,
}


def card(**facts):
    return render_card({**DESCRIPTION, "card": facts})


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


def rows(text):
    """Cells of every table row, unescaped."""
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {left.strip(): re.sub(r"\\(.)", r"\1", right.strip()) for left, right in cells}


def test_it_says_what_is_known_and_nothing_else():
    text = card(**FACTS, scores={"BLEU": 0.6789, "METEOR": None})
    assert header(text) == {
        "library_name": "peft-replication",
        "base_model": "openai-community/gpt2-medium",
        "tags": ["adapter", "peft-replication", "lora"],
    }
    found = rows(text)
    assert found["base"] == "openai-community/gpt2-medium, GPT2LMHeadModel, 24 blocks, width 1024"
    assert (found["trained parameters"], found["last dev loss"]) == ("393,216", "1.2500")
    assert (found["BLEU"], found["METEOR"]) == ("0.6789", "missing")
    assert "license" not in text
    assert "None recorded here." in card()


@pytest.mark.parametrize(
    ("facts", "standing"),
    [
        ({"profile": "quick"}, SMALL.format(profile="quick")),
        ({"profile": "cpu", "standing": "As good as published!"}, SMALL.format(profile="cpu")),
        ({}, UNKNOWN),
        ({"profile": "paper", "standing": "Judged elsewhere."}, "Judged elsewhere."),
    ],
)
def test_scores_never_stand_without_a_standing(facts, standing):
    text = card(**facts, scores={"BLEU": 0.5})
    assert standing in text
    assert ("good" in text) == ("good" in standing)


def test_the_lines_that_load_it_are_python():
    code = re.search(r"```python\n(.*?)```", card(**FACTS), flags=re.DOTALL)[1]
    compile(code, "card", "exec")
    assert 'GPT2LMHeadModel.from_pretrained("openai-community/gpt2-medium")' in code
    other = render_card({**DESCRIPTION, "base": {"class": "x; import os", "width": None, "blocks": None}})
    compile(re.search(r"```python\n(.*?)```", other, flags=re.DOTALL)[1], "card", "exec")


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_name_cannot_add_markup(data, base):
    """As many table rows, headings, code fences and header fields as with plain names, and the name is readable."""
    text, plain = card(data=data, base_model=base), card(data="x", base_model="y")
    for pattern in (r"^\|", r"^#", r"^```", r"^---$"):
        assert len(re.findall(pattern, text, flags=re.MULTILINE)) == len(re.findall(pattern, plain, flags=re.MULTILINE))
    assert header(text).get("base_model", "") == base
    assert rows(text)["data"] == (" ".join(data.split()) or "none")
    assert not re.search(r"(?<!\\)[<`\[]", text.split("## How to load")[0].split("---\n", 2)[2])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dataset": "E2E"}, r"unknown fact\(s\) dataset; valid facts are base_model"),
        ({"data": 3}, "data=3: must be a text"),
        ({"seed": True}, "seed=True: must be an integer"),
        ({"scores": [1]}, r"scores=\[1\]: must be a mapping"),
        ({"scores": {"BLEU": float("nan")}}, "'BLEU' is nan: must be a finite number"),
        ({"dev_loss": float("inf")}, "dev_loss=inf: must be a finite number"),
    ],
)
def test_other_facts_are_refused_by_name(facts, message):
    with pytest.raises(ConfigError, match=message):
        card_facts(facts)
