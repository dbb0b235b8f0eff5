"""Stage `pretrain`: which text a small backbone learns from, and what the stage leaves behind."""

from __future__ import annotations

import signal
from contextlib import nullcontext

import pytest

import replication.backbones as backbones
import replication.training.loop as loop
from pipelines.pretrain import pretrain_here, pretraining_config, pretraining_texts
from pipelines.shared.settings import BackboneSettings
from replication.backbones import get_backbone, load_model, load_tokenizer
from replication.errors import ConfigError, DataError, Stopped

TRAINING = {"steps": 2, "batch_size": 2, "warmup_steps": 1, "label_smoothing": 0.0, "learning_rate": 0.001}
PASSAGES = [f"The Golden Pear is a pub by the riverside. It has number {number}." for number in range(8)]
SMALL = ("microworld-deberta", "microworld-bart", "microworld-llama")


def settings(source, **pretraining):
    values = {"vocabulary_size": 290, "dev_passages": 2, "max_length": 32, "training": TRAINING, **pretraining}
    return BackboneSettings(source=str(source), pretraining=values)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # checkpoints/


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "pretraining.txt").write_text("\n".join(PASSAGES) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_a_small_backbone_is_made_and_loads_for_every_task(source, tmp_path, monkeypatch, name):
    import torch

    fewer = {"bart": {"encoder_layers": 1, "decoder_layers": 1}}
    known = get_backbone(name)
    changes = fewer.get(known.architecture, {"num_hidden_layers": 1})
    build = backbones.build_fresh
    monkeypatch.setattr(backbones, "build_fresh", lambda name, **sizes: build(name, **sizes, **changes))
    chosen = settings(source)
    output = tmp_path / "weights" / name
    pretrain_here(known, chosen, pretraining_config(chosen, known, threads=1), output)
    assert {"config.json", "model.safetensors", "tokenizer.json", "curves.csv"} <= {p.name for p in output.iterdir()}
    tokenizer = load_tokenizer(name, output)
    batch = tokenizer(PASSAGES[:2], padding=True, return_tensors="pt", return_token_type_ids=False)
    for task in known.tasks:
        model = load_model(name, output, task=task)
        assert model.config.pad_token_id == tokenizer.pad_token_id
        with torch.no_grad():
            assert torch.isfinite(next(iter(model(**batch).values()))).all()


def test_several_files_of_text(source, tmp_path):
    more = tmp_path / "more.txt"
    more.write_text("Zwiebelkuchen was sold out.\n" * 20, encoding="utf-8")
    assert pretraining_texts(settings(source)) == [source / "pretraining.txt"]
    chosen = settings(source, texts=[str(source / "pretraining.txt"), str(more)])
    assert pretraining_texts(chosen) == [source / "pretraining.txt", more]
    known = get_backbone("microworld-gpt2")
    config = pretraining_config(chosen, known, threads=1)
    assert config.vocabulary_size == 290, "the files are no setting of the training"
    pretrain_here(known, chosen, config, tmp_path / "both")
    pretrain_here(known, settings(source), config, tmp_path / "one")
    both, one = (load_tokenizer(known.name, tmp_path / name) for name in ("both", "one"))
    assert len(both.encode("Zwiebelkuchen")) < len(one.encode("Zwiebelkuchen"))


@pytest.mark.parametrize("texts", ["data/pretraining.txt", [], [3]])
def test_files_of_text_are_a_list_of_names(source, texts):
    with pytest.raises(ConfigError, match=r"pretraining\.texts=.*valid is a list"):
        pretraining_texts(settings(source, texts=texts))


def test_a_file_that_is_not_there(tmp_path):
    known, chosen = get_backbone("microworld-gpt2"), settings(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere/pretraining\.txt: no such file; `dvc pull"):
        pretrain_here(known, chosen, pretraining_config(chosen, known, threads=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_where_they_do_not_belong(source):
    with pytest.raises(ConfigError, match=r"backbones\.minilm-l6\.pretraining: minilm-l6 has pretrained weights"):
        pretraining_config(settings(source), get_backbone("minilm-l6"), threads=1)
    with pytest.raises(ConfigError, match=r"backbones\.microworld-bart\.pretraining: missing"):
        pretraining_config(BackboneSettings(source=str(source)), get_backbone("microworld-bart"), threads=1)
    assert pretraining_config(BackboneSettings(source="x"), get_backbone("minilm-l6"), threads=1) is None


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("code", [None, "f" * 64], ids=["same code", "other code"])
def test_stopped_pretraining_goes_on_from_its_checkpoint_under_the_same_code(
    source, tmp_path, monkeypatch, capsys, code
):
    known, chosen = get_backbone("microworld-gpt2"), settings(source, training={**TRAINING, "steps": 4})
    config, build, starts = pretraining_config(chosen, known, threads=1), backbones.build_fresh, []
    monkeypatch.setattr(backbones, "build_fresh", lambda name, **sizes: build(name, **sizes, n_layer=1))
    pretrain_here(known, chosen, config, tmp_path / "undisturbed")
    asked = iter([0, signal.SIGTERM])
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.pretrain.between_steps", lambda: nullcontext(lambda: next(asked)))
        with pytest.raises(Stopped, match=r"SIGTERM \(checkpoint of step 2 written\); run the same command again"):
            pretrain_here(known, chosen, config, tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    if code:
        monkeypatch.setattr("pipelines.pretrain.made_by", lambda *_: code)
    load = loop.load_checkpoint
    monkeypatch.setattr(loop, "load_checkpoint", lambda *given: starts.append(load(*given)) or starts[-1])
    pretrain_here(known, chosen, config, tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")
    assert [start and start.step for start in starts] == [None if code else 2]
    assert ("discarded: made with other" in capsys.readouterr().out) == bool(code)
    assert not (tmp_path / "checkpoints/weights" / known.name).exists()
