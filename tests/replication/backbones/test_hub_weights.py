"""Weights from the hub: only pretrained tensors, only the pinned bytes, equal files; a loopback hub serves them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from replication.backbones import BACKBONES, hub_weights, load_model, load_tokenizer, loading
from replication.backbones.hub_weights import HubFile, fetch_hub_weights, needed_files, repository_files
from replication.errors import ConfigError, DataError
from replication.fileio import read_json, sha256_bytes, sha256_file

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("gpt2-medium", "deberta-v3-base", "bart-large", "llama-3.1-8b")


@pytest.fixture
def hub(model_hub):
    return model_hub


def repository(hub, name):
    return hub.repositories[f"models/{BACKBONES[name].hub_id}"]


def tensors(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


# --- what is kept


@pytest.mark.parametrize("name", NAMES)
def test_equal_bytes_at_every_fetch_and_only_files_of_a_checkpoint(hub, tmp_path, name):
    first, second = (fetch_hub_weights(name, tmp_path / place / name) for place in ("a", "b"))
    files = sorted(path.name for path in first.iterdir())
    assert {path: sha256_file(first / path) for path in files} == {path: sha256_file(second / path) for path in files}
    assert set(files) <= {
        *("config.json", "generation_config.json", "model.safetensors", "source.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert (first / "config.json").read_bytes() == repository(hub, name).files["config.json"]
    assert [path.name for place in ("a", "b") for path in (tmp_path / place).iterdir()] == [name, name]


@pytest.mark.slow
def test_another_process_and_cache_write_the_same_bytes_through_the_stage(hub, published_models, tmp_path):
    here = fetch_hub_weights("deberta-v3-base", tmp_path / "here")
    environment = hub.environment(tmp_path / "child", published_models[1].parent)
    arguments = ["--params", str(ROOT / "pipelines/paper/params.yaml"), "--backbone", "deberta-v3-base"]
    command = [sys.executable, "-m", "pipelines.pretrain", *arguments]
    made = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    there = tmp_path / "weights" / "deberta-v3-base"
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in here.iterdir())
    for path in here.iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("name", "dtype", "head"),
    [
        ("gpt2-medium", torch.float32, []),
        ("deberta-v3-base", torch.float16, []),
        ("bart-large", torch.float16, []),
        ("llama-3.1-8b", torch.bfloat16, ["lm_head.weight"]),
    ],
)
def test_only_pretrained_tensors_in_their_own_precision(hub, tmp_path, name, dtype, head):
    kept = tensors(fetch_hub_weights(name, tmp_path / name))
    body = loading.build_empty(name).base_model_prefix + "."
    assert sorted(key for key in kept if not key.startswith(body)) == head
    assert {value.dtype for value in kept.values()} == {dtype}
    left_out = read_json(tmp_path / name / "source.json")["left_out"]
    assert not any(key in kept for key in left_out)
    if name == "deberta-v3-base":
        assert "lm_predictions.lm_head.weight" in left_out, "a second name of the embedding's memory"


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_the_published_ones(hub, tmp_path, name):
    from safetensors.torch import load

    files = repository(hub, name).files
    if name == "deberta-v3-base":
        path = tmp_path / "published.bin"
        path.write_bytes(files["pytorch_model.bin"])
        source = torch.load(path, weights_only=True)
    else:
        parts = [load(data) for file, data in files.items() if file.endswith(".safetensors")]
        source = {key: value for part in parts for key, value in part.items()}
    kept = tensors(fetch_hub_weights(name, tmp_path / name))
    body = loading.build_empty(name).base_model_prefix + "."
    for key, value in kept.items():
        assert torch.equal(value, source[key] if key in source else source[key.removeprefix(body)]), key


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_serves_the_tasks_of_the_profile(hub, tmp_path, name):
    fetch_hub_weights(name, tmp_path / name)
    tokenizer = load_tokenizer(name, tmp_path / name)
    batch = tokenizer(["the golden pear", "a pub"], padding=True, return_tensors="pt", return_token_type_ids=False)
    for task in (task for task in BACKBONES[name].tasks if task != "masked_lm"):
        model = load_model(name, tmp_path / name, task=task)
        model.config.pad_token_id = tokenizer.pad_token_id
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        with torch.no_grad():
            assert torch.isfinite(next(iter(model(**batch).values()))).all()


def test_the_converted_tokenizer_needs_no_sentencepiece_later(hub, tmp_path, monkeypatch):
    fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    tokenizer = load_tokenizer("deberta-v3-base", tmp_path / "deberta")
    ids = tokenizer("the golden pear", "yes")["input_ids"]
    assert tokenizer.decode(ids) == "[CLS] the golden pear[SEP] yes[SEP]"


def test_provenance_names_source_file_hash_and_revision(hub, tmp_path):
    fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    source = read_json(tmp_path / "deberta" / "source.json")
    known = BACKBONES["deberta-v3-base"]
    assert (source["hub_id"], source["revision"]) == (known.hub_id, known.revision)
    assert source["from"]["pytorch_model.bin"] == {"bytes": known.pickled.size, "sha256": known.pickled.sha256}
    assert "weights_only=True" in source["conversion"]
    assert source["files"]["model.safetensors"] == sha256_file(tmp_path / "deberta" / "model.safetensors")


# --- what is refused


def test_changed_bytes_are_not_unpickled_and_leave_the_cache(hub, tmp_path, monkeypatch):
    hub.spoil.add("pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("changed bytes were unpickled"))
    with pytest.raises(DataError, match=r"pytorch_model\.bin has \d+ bytes and sha256 [0-9a-f]{64}, expected.*again"):
        fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    assert not (tmp_path / "deberta").exists()


def test_a_rerun_after_changed_bytes_starts_again(hub, tmp_path):
    hub.spoil.add("pytorch_model.bin")
    with pytest.raises(DataError, match="removed from the hub's cache"):
        fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    hub.spoil.clear()
    fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    assert hub.files_sent().count("pytorch_model.bin") == 2


def test_a_pickled_file_that_is_not_the_pinned_one_is_not_downloaded(hub, tmp_path):
    files = repository(hub, "deberta-v3-base").files
    files["pytorch_model.bin"] += b"more"
    with pytest.raises(DataError, match=r"a pickled file is read only if it is the pinned one"):
        fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    assert "pytorch_model.bin" not in hub.files_sent()


def test_code_in_a_pickled_file_does_not_run(hub, tmp_path, monkeypatch):
    import pickle

    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    data = pickle.dumps({"deberta.embeddings.word_embeddings.weight": Evil()}, protocol=2)
    repository(hub, "deberta-v3-base").files["pytorch_model.bin"] = data
    known = BACKBONES["deberta-v3-base"]
    pinned = replace(known.pickled, size=len(data), sha256=sha256_bytes(data))
    monkeypatch.setitem(BACKBONES, known.name, replace(known, pickled=pinned))
    with pytest.raises(DataError, match="cannot be read with weights_only=True"):
        fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    assert not marker.exists()


def test_a_pickled_file_beside_no_safetensors_is_refused_for_every_other_backbone(hub, tmp_path):
    files = repository(hub, "gpt2-medium").files
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with pytest.raises(DataError, match=r"no model\.safetensors and no .*index\.json among .*pytorch_model\.bin"):
        fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    assert "pytorch_model.bin" not in hub.files_sent()


def test_a_missing_tensor_and_a_wrong_shape(hub, tmp_path):
    from safetensors.torch import load, save

    files = repository(hub, "gpt2-medium").files
    state = load(files["model.safetensors"])
    files["model.safetensors"] = save({key: value for key, value in state.items() if key != "h.2.mlp.c_fc.weight"})
    with pytest.raises(DataError, match=r"no tensor transformer\.h\.2\.mlp\.c_fc\.weight in model\.safetensors"):
        fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    shutil.rmtree(tmp_path / "hub")
    files["model.safetensors"] = save({**state, "wte.weight": state["wte.weight"][:-1].clone()})
    with pytest.raises(DataError, match=r"wte\.weight has the shape"):
        fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    assert not (tmp_path / "gpt2").exists()


def test_an_index_that_names_a_file_that_is_not_there(hub, tmp_path):
    files = repository(hub, "llama-3.1-8b").files
    del files["model-00002-of-00005.safetensors"]
    with pytest.raises(DataError, match=r"names model-00002-of-00005\.safetensors, not among the files"):
        fetch_hub_weights("llama-3.1-8b", tmp_path / "llama")


@pytest.mark.parametrize("index", [[], {"weight_map": ["a"]}, {"weight_map": {"w": [1]}}, {"weight_map": {"w": 3}}])
def test_an_index_that_is_none(index):
    with pytest.raises(DataError, match=r"has no weight_map|names \[?[13]\]?, not among the files"):
        hub_weights.shards(BACKBONES["llama-3.1-8b"], index, {})


@pytest.mark.parametrize(
    ("file", "data"),
    [
        *(("config.json", data) for data in (b"[]", bytes(100), b"{", b'{"model_type": "gpt2", "n_embd": "big"}')),
        *(("config.json", data) for data in (b'{"model_type": 3}', b"[" * 100_000)),
        *(("generation_config.json", data) for data in (b"[]", b"\xff")),
    ],
)
def test_a_configuration_that_is_none(hub, tmp_path, file, data):
    repository(hub, "gpt2-medium").files[file] = data
    with pytest.raises(DataError, match=rf"{file}|cannot be loaded") as caught:
        fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_another_model_under_the_name(hub, tmp_path):
    config = json.loads(repository(hub, "gpt2-medium").files["config.json"])
    repository(hub, "gpt2-medium").files["config.json"] = json.dumps({**config, "n_embd": 16}).encode()
    with pytest.raises(DataError, match=r"not gpt2-medium: hidden_size is 16, expected 304"):
        fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")


@pytest.mark.parametrize("module", ["sentencepiece", "google.protobuf"])
def test_missing_packages_are_named_before_a_download(hub, tmp_path, monkeypatch, module):
    real = hub_weights.find_spec
    monkeypatch.setattr(hub_weights, "find_spec", lambda name: None if name == module else real(name))
    with pytest.raises(DataError, match=rf"{module.rpartition('.')[2]}.*pip install -c constraints\.txt"):
        fetch_hub_weights("deberta-v3-base", tmp_path / "deberta")
    assert hub.files_sent() == []
    fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")


def test_a_gated_model_says_how_to_get_access(hub, tmp_path):
    repository(hub, "llama-3.1-8b").gated = True
    with pytest.raises(DataError, match=r"accept the licence at https://huggingface\.co/meta-llama.*hf auth login"):
        fetch_hub_weights("llama-3.1-8b", tmp_path / "llama")
    assert not (tmp_path / "llama").exists()


def test_a_revision_that_is_not_there(hub, tmp_path):
    repository(hub, "gpt2-medium").revision = "0" * 40
    with pytest.raises(DataError, match=BACKBONES["gpt2-medium"].revision):
        fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")


def test_only_hub_backbones(tmp_path):
    with pytest.raises(ConfigError, match=r"minilm-l6 is not on a hub.*dvc repro pipelines/cpu"):
        fetch_hub_weights("minilm-l6", tmp_path)


def test_loading_without_a_folder_never_looks_for_another_revision(hub):
    with pytest.raises(DataError, match=r"no safetensors; `dvc repro .*pretrain@deberta-v3-base` converts it once"):
        load_model("deberta-v3-base")
    assert hub.asked == []


# --- interrupted and without a network


def test_a_cut_download_resumes_and_keeps_the_earlier_folder(hub, tmp_path, monkeypatch):
    import huggingface_hub

    fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    before = sha256_file(tmp_path / "gpt2" / "model.safetensors")
    for path in (tmp_path / "hub").rglob("model.safetensors"):
        path.resolve().unlink()
        path.unlink()
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 250)
    hub.cut["model.safetensors"] = [1000]
    fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    assert hub.ranges == ["bytes=1000-"], "the client resumes in the same process"
    assert sha256_file(tmp_path / "gpt2" / "model.safetensors") == before


def test_a_download_that_fails_leaves_nothing_and_a_rerun_succeeds(hub, tmp_path, monkeypatch):
    import huggingface_hub

    hub_download = huggingface_hub.hf_hub_download

    def broken(repository, file, **more):
        if file == "model-00003-of-00005.safetensors":
            raise OSError("the connection broke")
        return hub_download(repository, file, **more)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(DataError, match="the connection broke"):
        fetch_hub_weights("llama-3.1-8b", tmp_path / "weights" / "llama")
    assert not (tmp_path / "weights").exists()
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub_download)
    fetch_hub_weights("llama-3.1-8b", tmp_path / "weights" / "llama")
    assert hub.files_sent().count("model-00001-of-00005.safetensors") == 1, "complete files are kept"


def test_a_crash_while_writing_leaves_the_earlier_folder(hub, tmp_path, monkeypatch):
    fetch_hub_weights("bart-large", tmp_path / "weights" / "bart")
    before = sha256_file(tmp_path / "weights" / "bart" / "source.json")
    monkeypatch.setattr(hub_weights, "_source", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetch_hub_weights("bart-large", tmp_path / "weights" / "bart")
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["bart"]
    assert sha256_file(tmp_path / "weights" / "bart" / "source.json") == before


def test_the_cache_is_enough_without_a_network(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    for name in ("deberta-v3-base", "llama-3.1-8b"):
        fetch_hub_weights(name, tmp_path / "a" / name)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        asked = len(hub.asked)
        fetch_hub_weights(name, tmp_path / "b" / name)
        assert len(hub.asked) == asked
        assert sha256_file(tmp_path / "a" / name / "source.json") == sha256_file(tmp_path / "b" / name / "source.json")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"the hub is not reached and the cache has no copy"):
        fetch_hub_weights("bart-large", tmp_path / "b" / "bart")


def test_sizes_and_hashes_are_those_of_the_hub(hub):
    listing = repository_files(BACKBONES["llama-3.1-8b"])
    files = repository(hub, "llama-3.1-8b").files
    assert {name: entry.size for name, entry in listing.items()} == {name: len(data) for name, data in files.items()}
    assert {bool(entry.sha256) for name, entry in listing.items() if name.endswith(".safetensors")} == {True}
    assert needed_files(BACKBONES["llama-3.1-8b"], listing)[1] == ["model.safetensors.index.json"]


def test_one_file_is_preferred_to_several():
    files = {name: HubFile(1, None) for name in ("config.json", "model.safetensors", "model.safetensors.index.json")}
    assert needed_files(BACKBONES["llama-3.1-8b"], files)[1] == ["model.safetensors"]


def test_the_pinned_pickle_is_the_only_one_and_has_a_source():
    pickled = {name: known.pickled for name, known in BACKBONES.items() if known.pickled}
    assert list(pickled) == ["deberta-v3-base"]
    assert pickled["deberta-v3-base"].size == 371_146_213
    assert len(pickled["deberta-v3-base"].sha256) == 64
    assert pickled["deberta-v3-base"].source


BUSY = [("GET", "/api/models/", 503), ("HEAD", "/resolve/", 503), ("GET", "/lfs/", 503), ("GET", "/api/models/", 429)]


@pytest.mark.parametrize(
    "refused",
    [BUSY[0], *(pytest.param(one, marks=pytest.mark.slow) for one in BUSY[1:])],
    ids=lambda one: f"{one[2]} to {one[0]} {one[1]}",
)
def test_a_busy_hub_is_asked_again_a_few_times(hub, tmp_path, monkeypatch, refused):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.busy.extend([refused] * 2)
    fetch_hub_weights("gpt2-medium", tmp_path / "gpt2")
    assert not hub.busy
    hub.busy.extend([refused] * 1000)
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(DataError):
        fetch_hub_weights("gpt2-medium", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert len(hub.busy) > 960
