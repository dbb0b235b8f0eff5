"""`replicate predict` on a tiny backbone and saved adapters, all made here."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from replication import cli
from replication.commands import predict
from replication.errors import AdapterError, ConfigError, DataError
from replication.methods import attach, load, save, trainable_parameters
from replication.methods.lora import LoraConfig
from replication.predictions import read_predictions
from replication.training.decoding import DecodingConfig, generate

SEPARATOR = "<|endoftext|>"
MILL = "name[The Mill], eatType[pub]"
EAGLE = "name[The Eagle], priceRange[£20-25], near[Café Sicilia]"


def tiny_model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=257,
        n_positions=160,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.4,
        bos_token_id=256,
        eos_token_id=256,
    )
    return GPT2LMHeadModel(config).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate([*alphabet, SEPARATOR])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=SEPARATOR)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder with weights/microworld-gpt2 and a LoRA adapter that changes the model."""
    weights = tmp_path / "weights" / "microworld-gpt2"
    tiny_model().save_pretrained(weights)
    tiny_tokenizer().save_pretrained(weights)
    model = attach(tiny_model(), LoraConfig(rank=2))
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.normal_(std=0.5)
    save(model, tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object, backbone: str | None = "microworld-gpt2", beams: int = 2):
    """Call the command as the root application does; few tokens keep it fast."""
    app = typer.Typer()
    app.callback()(lambda: None)  # with a single command typer would drop its name
    predict.register(app)
    fixed = [
        "predict",
        "--adapter",
        "adapter",
        "--beams",
        beams,
        "--max-new-tokens",
        12,
        "--length-penalty",
        2,
    ]
    named = ["--backbone", backbone] if backbone else []
    return CliRunner().invoke(app, [str(word) for word in (*fixed, *named, *arguments)])


def texts_of(contexts: list[str], *, adapted: bool = True) -> list[str]:
    model = load(tiny_model(), "adapter") if adapted else tiny_model()
    config = DecodingConfig(beams=2, max_new_tokens=12, length_penalty=2.0)
    return generate(model, tiny_tokenizer(), contexts, config, separator=SEPARATOR)


def test_json_holds_what_the_adapted_model_says(place: Path) -> None:
    result = run("--mr", MILL, "--mr", EAGLE, "--json")
    assert result.exit_code == 0, result.output
    contexts = ["name : The Mill | Type : pub", "name : The Eagle | price : £ 20 - 25 | near : Café Sicilia"]
    expected = texts_of(contexts)
    assert json.loads(result.stdout) == [
        {"mr": mr, "context": context, "prediction": text, "references": []}
        for mr, context, text in zip([MILL, EAGLE], contexts, expected, strict=True)
    ]
    assert expected != texts_of(contexts, adapted=False)


def test_plain_output_shows_mr_and_text(place: Path) -> None:
    result = run("--mr", MILL)
    [text] = texts_of(["name : The Mill | Type : pub"])
    assert result.exit_code == 0
    assert result.stdout == f"{MILL}\n  {text or '(no text)'}\n"


@pytest.mark.parametrize(
    ("name", "content", "references"),
    [
        ("mrs.txt", f"{MILL}\n\n  {EAGLE}  \n{MILL}\n", {MILL: [], EAGLE: []}),
        (
            "rows.csv",
            f'mr,ref\r\n"{MILL}",A pub.\r\n"{EAGLE}","Near, cheap."\r\n"{MILL}",One pub.\r\n',
            {MILL: ["A pub.", "One pub."], EAGLE: ["Near, cheap."]},
        ),
        ("testset.csv", f'MR\n"{MILL}"\n"{EAGLE}"\n', {MILL: [], EAGLE: []}),
        (
            "predictions.jsonl",
            json.dumps({"mr": MILL, "references": ["A pub."]}) + "\n" + json.dumps({"mr": EAGLE}) + "\n",
            {MILL: ["A pub."], EAGLE: []},
        ),
    ],
)
def test_input_files(place: Path, name: str, content: str, references: dict[str, list[str]]) -> None:
    Path(name).write_text(content, encoding="utf-8", newline="")
    result = run("--input", name, "--output", "out/predictions.jsonl")
    assert result.exit_code == 0, result.output
    rows = read_predictions("out/predictions.jsonl")
    assert {row["mr"]: row["references"] for row in rows} == references
    assert [row["prediction"] for row in rows] == texts_of([row["context"] for row in rows])
    assert "2 predictions written to out/predictions.jsonl" in result.stderr


def test_the_output_can_be_the_next_input(place: Path) -> None:
    run("--mr", MILL, "--output", "first.jsonl")
    assert run("--input", "first.jsonl", "--output", "second.jsonl").exit_code == 0
    assert Path("first.jsonl").read_bytes() == Path("second.jsonl").read_bytes()


def test_mr_options_come_before_the_file(place: Path) -> None:
    Path("mrs.txt").write_text(f"{MILL}\n{EAGLE}\n", encoding="utf-8")
    result = run("--mr", EAGLE, "--input", "mrs.txt", "--json")
    assert [row["mr"] for row in json.loads(result.stdout)] == [EAGLE, MILL]


def test_the_adapter_may_name_its_backbone(place: Path) -> None:
    path = Path("adapter/adapter_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "backbone": "microworld-gpt2"}))
    named = run("--mr", MILL, "--json", backbone=None)
    assert named.exit_code == 0
    assert named.stdout == run("--mr", MILL, "--json").stdout
    other = run("--mr", MILL, backbone="gpt2")
    assert isinstance(other.exception, ConfigError)
    assert "was trained on microworld-gpt2" in str(other.exception)


def test_help_shows_the_form_and_the_true_defaults() -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    predict.register(app)
    shown = CliRunner().invoke(app, ["predict", "--help"], env={"COLUMNS": "300"}).stdout
    assert "name[The Mill], eatType[pub]" in shown
    assert "weights/<backbone>" in shown
    defaults = {name: str(value) for name, value in dataclasses.asdict(DecodingConfig()).items()}
    assert defaults == predict.DEFAULTS_SHOWN


def test_weights_may_lie_elsewhere(place: Path) -> None:
    expected = run("--mr", MILL, "--json").stdout
    Path("weights").rename("elsewhere")
    result = run("--mr", MILL, "--json", "--weights", "elsewhere/microworld-gpt2")
    assert result.stdout == expected


def refusal(*arguments: object, kind: type[Exception], **named) -> str:
    result = run(*arguments, **named)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("--mr", "name[A], colour[red]"), DataError, "--mr 1: unknown slot 'colour'"),
        (("--mr", MILL, "--mr", "name[A], near["), DataError, "--mr 2: malformed"),
        ((), ConfigError, "nothing to generate: give --mr"),
        (("--input", "none.txt"), DataError, "none.txt: cannot be read"),
        (("--input", "mrs.xlsx"), ConfigError, "valid are .jsonl, .csv or .txt"),
        (("--mr", MILL, "--weights", "nowhere"), DataError, "nowhere: no such folder of weights"),
    ],
)
def test_refusals(place: Path, arguments, kind, message: str) -> None:
    assert message in refusal(*arguments, kind=kind)


def test_bad_settings_are_refused(place: Path) -> None:
    assert "beams=0" in refusal("--mr", MILL, beams=0, kind=ConfigError)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mrs.txt", f"{MILL}\n\nname[A], colour[red]\n", "mrs.txt, line 3: unknown slot 'colour'"),
        ("empty.txt", "\n\n", "empty.txt holds no meaning representation"),
        ("rows.jsonl", '{"mr": "name[A]"}\n{"text": 1}\n', "rows.jsonl, line 2: expected an object"),
        ("rows.jsonl", '{"mr": 7}\n', "rows.jsonl, line 1: the meaning representation must be a string"),
        ("rows.jsonl", '{"mr": "name[A]", "references": "x"}\n', "rows.jsonl, line 1: field 'references'"),
        ("rows.csv", "meaning,ref\nname[A],x\n", "rows.csv, line 1: column mr is missing"),
        ("testset.csv", 'MR\n"name[A]"\n"name A"\n', "testset.csv, line 3: malformed"),
        ("testset.csv", "mr\nname[A], near[B]\n", "testset.csv, line 2: 2 columns"),
    ],
)
def test_a_bad_input_row_is_named_and_nothing_is_written(place, name: str, content: str, message: str) -> None:
    Path(name).write_text(content, encoding="utf-8")
    result = run("--input", name, "--output", "out.jsonl")
    assert message in str(result.exception)
    assert not Path("out.jsonl").exists()


def test_backbone_and_adapter_refusals(place: Path) -> None:
    assert "names no backbone" in refusal("--mr", MILL, backbone=None, kind=ConfigError)
    assert "microworld-gpt2" in refusal("--mr", MILL, backbone="gpt3", kind=ConfigError)
    assert "causal language model" in refusal("--mr", MILL, backbone="bart-large", kind=ConfigError)
    message = refusal("--mr", MILL, backbone="smollm2-135m", kind=DataError)
    assert "weights/smollm2-135m: no such folder" in message
    assert "dvc repro" in message
    Path("adapter/adapter_config.json").rename("adapter/other.json")
    assert "adapter_config.json: no such file" in refusal("--mr", MILL, kind=AdapterError)


def test_a_damaged_adapter_is_refused(place: Path) -> None:
    weights = Path("adapter/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "adapter_model.safetensors" in refusal("--mr", MILL, kind=AdapterError)


def test_the_command_line_prints_the_error_and_exits_with_2(place, monkeypatch, capsys) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    predict.register(app)
    monkeypatch.setattr(cli, "build_app", lambda: app)
    monkeypatch.setattr(sys, "argv", ["replicate", "predict", "--adapter", "adapter", "--mr", "name[A"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert "error: --mr 1: malformed" in captured.err
    assert captured.out == ""
