"""`replicate count`: the papers' numbers, settings as they are typed, and clear refusals."""

import json
import math
import re

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from replication.commands.count import count_report, parse_setting, parse_settings, published_size, register
from replication.errors import AdapterError, ConfigError


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["count", *arguments], env={"COLUMNS": "80", "TERM": "dumb"})


def as_json(*arguments):
    result = run(*arguments, "--json")
    assert result.exception is None, result.exception
    lines = result.stdout.splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


# --- the papers' numbers


@pytest.mark.parametrize(
    ("backbone", "method", "settings", "adapter"),
    [
        ("gpt2-medium", "full", [], 354_823_168),
        ("gpt2-medium", "frozen", [], 0),
        ("gpt2-medium", "lora", [], 393_216),
        ("gpt2-medium", "solo_connection", [], 259_499),
        ("gpt2-medium", "solo_connection", ["skip_length=6"], 250_339),
        ("gpt2-large", "lora", ["rank=4"], 737_280),
        ("gpt2-large", "solo_connection", [], 332_417),
        ("gpt2-large", "solo_connection", ["rank=120", "skip_length=6"], 315_605),
        ("gpt2-large", "solo_connection", ["rank=300", "sparsity=0.6", "skip_length=6"], 316_685),
        ("smollm2-135m", "lora", [], 230_400),
        ("smollm2-135m", "solo_connection", [], 148_694),
        ("deberta-v3-base", "lora", ["rank=8", "targets=query,key,value"], 442_368),
        ("llama-3.1-8b", "lora", [], 32 * 4 * (2 * 4096 + 4096 + 1024)),
        ("bart-large", "solo_connection", [], 2 * 1024 * 120 + 120 + 1024 + 5 * 1145),
    ],
)
def test_adapter_counts(backbone, method, settings, adapter):
    report = count_report(backbone, method, parse_settings(settings))
    assert report["adapter"] == adapter
    assert report["trainable"] == report["adapter"] + report["importance"] + report["head"]
    assert report["ratio_of"] == "adapter"
    assert report["ratio_to_full"] == adapter / report["full"]


def test_full_shows_the_published_size_and_the_count():
    report = as_json("--backbone", "gpt2-medium", "--method", "full")
    assert report["published"] == {"text": "354.92M", "parameters": 354_920_000, "difference": 96_832}
    assert report["full"] == report["trainable"] == report["total"] == 354_823_168
    text = run("--backbone", "gpt2-medium", "--method", "full").stdout
    assert all(part in text for part in ("354,823,168", "354.92M", "96,832"))


def test_head_is_kept_apart():
    report = as_json("--backbone", "deberta-v3-base", "--method", "lora", "--set", "rank=8")
    assert report["task"] == "sequence_classification"
    assert (report["head"], report["full"]) == (592_130, 183_831_552 + 592_130)
    assert report["trainable"] == report["adapter"] + 592_130
    assert report["total"] == report["full"] + report["adapter"]
    more = as_json("--backbone", "deberta-v3-base", "--method", "lora", "--labels", "5")
    assert more["head"] - report["head"] == 3 * 769


def test_task_is_chosen():
    report = as_json("--backbone", "gpt2", "--method", "lora", "--task", "sequence_classification")
    assert (report["task"], report["head"]) == ("sequence_classification", 2 * 768)


def test_ratios_of_the_abstract():
    report = as_json("--backbone", "gpt2-large", "--method", "solo_connection", "--set", "skip_length=6")
    assert report["lora_r4_query_value"] == 737_280
    # "59 % fewer parameters than LoRA" (arXiv 2507.14353), with 0.77M for LoRA as published.
    assert round(100 * (1 - report["adapter"] / 770_000)) == 59
    assert report["ratio_to_lora_r4_query_value"] == 315_605 / 737_280


def test_printed_size_may_be_absent_or_below():
    assert published_size(None, 10) is None
    assert published_size("774.03M", 774_030_080)["difference"] == -80


# --- how it is typed


def test_settings_may_repeat_the_option_or_follow_it():
    start = ("--backbone", "gpt2-large", "--method", "solo_connection")
    repeated = as_json(*start, "--set", "rank=60", "--set", "skip_length=6")
    followed = as_json(*start, "--set", "rank=60", "skip_length=6")
    assert repeated == followed
    assert (repeated["config"]["rank"], repeated["config"]["skip_length"]) == (60, 6)


def test_printed_settings_can_be_typed_again():
    start = ("--backbone", "gpt2", "--method", "solo_connection")
    nested = as_json(*start, "--set", "lora={rank: 2, targets: [query]}", "links=[[2, 4], [6, 9]]", "rank=7")
    assert nested["config"]["lora"]["targets"] == ["query"]
    assert nested["config"]["links"] == [[2, 4], [6, 9]]
    again = [f"{field}={json.dumps(value)}" for field, value in nested["config"].items()]
    assert as_json(*start, "--set", *again) == nested


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rank=120", 120),
        ("dropout=1e-3", 0.001),
        ("dropout=.5", 0.5),
        ("alpha=-2.", -2.0),
        ("targets=query", "query"),
        ("targets=query,key, value", ("query", "key", "value")),
        ("targets=[query, value]", ("query", "value")),
        ("targets='a,b'", "a,b"),
        ("links=[[2, 4], [4, 6]]", ((2, 4), (4, 6))),
        ("lora={rank: 4}", {"rank": 4}),
        ("homotopy_parameter=null", None),
        ("train_autoencoder=false", False),
        ("rank=010", "010"),  # no octal: refused later as no integer
        ("name=on", "on"),
        ("name=2024-01-02", "2024-01-02"),
        (" rank = 4 ", 4),
    ],
)
def test_values(text, value):
    field, parsed = parse_setting(text)
    assert (field, parsed) == (text.split("=")[0].strip(), value)
    assert type(parsed) is type(value)


names = st.text(alphabet="abcdefg_", min_size=1, max_size=6)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(max_codepoint=0xD7FF), max_size=8),  # JSON's \\u pairs are not YAML's
)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def tuples(value):
    if isinstance(value, list):
        return tuple(tuples(item) for item in value)
    return {key: tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(field=names, value=values)
def test_any_json_value_round_trips(field, value):
    assert parse_setting(f"{field}={json.dumps(value)}") == (field, tuples(value))


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_python_writes_them(number):
    parsed = parse_setting(f"alpha={number!r}")[1]
    assert isinstance(parsed, float)
    assert math.copysign(1, parsed) == math.copysign(1, number)
    assert parsed == number


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--backbone", "gpt9", "--method", "lora"], ["gpt9", "gpt2-medium", "bart-large"]),
        (["--backbone", "gpt2", "--method", "lorra"], ["lorra", "full", "frozen", "lora", "solo_connection"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "rnk=4"], ["rnk", "rank", "alpha", "targets"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "rank=abc"], ["rank", "abc", "integer"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "rank=0"], ["rank=0", "at least 1"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "rank"], ["rank", "FIELD=VALUE"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "=4"], ["=4", "FIELD=VALUE"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "rank="], ["rank=", "null"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "rank=4", "rank=5"], ["rank=5", "twice"]),
        (["--backbone", "gpt2", "--method", "lora", "--set", "targets=[query"], ["targets=[query", "YAML"]),
        (["--backbone", "gpt2", "--method", "full", "--set", "rank=4"], ["rank", "full"]),
        (["--backbone", "gpt2", "--method", "lora", "--task", "speech"], ["speech", "causal_lm"]),
        (["--backbone", "gpt2", "--method", "solo_connection", "--set", "rank=2000"], ["2000", "768"]),
        (["--backbone", "microworld-gpt2", "--method", "solo_connection"], ["120", "96"]),
    ],
)
def test_refused_with_what_is_valid(arguments, named):
    error = run(*arguments).exception
    assert isinstance(error, ConfigError | AdapterError)
    assert [part for part in named if part not in str(error)] == []


# --- what a reader sees


@pytest.mark.parametrize("backbone", ["gpt2-medium", "llama-3.1-8b", "smollm2-135m", "microworld-gpt2"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_screen_fits_80_columns_and_says_what_the_ratios_are_of(backbone, method):
    result = run("--backbone", backbone, "--method", method)
    assert result.exception is None
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    assert "ratios are of `adapter`" in result.stdout
    counts = [int(found.replace(",", "")) for found in re.findall(r"│ adapter +│ +([\d,]+) │", result.stdout)]
    assert counts == [as_json("--backbone", backbone, "--method", method)["adapter"]]


def test_note_of_the_packaged_weights_is_shown():
    assert "dequantised" in run("--backbone", "smollm2-135m", "--method", "lora").stdout
