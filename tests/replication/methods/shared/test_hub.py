"""Uploading to the loopback hub: what arrives, that it loads, and what a refusal says."""

import copy
import json

import pytest
import torch
from huggingface_hub import snapshot_download

from replication import attach, load, method_config, push_to_hub, save
from replication.errors import AdapterError, ConfigError
from replication.testing.laws import logits_of, some_ids, stir

TOKEN = "hf_secret"


@pytest.fixture
def hub(loopback, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with loopback.serve(loopback.LoopbackHub(writers={TOKEN})) as running:
        loopback.reach(running, monkeypatch, tmp_path)
        yield running


@pytest.fixture
def model(tiny_gpt2):
    return stir(attach(tiny_gpt2, method_config("lora", rank=2)))


def files(hub, name="me/adapter"):
    return hub.repositories[f"models/{name}"].files


def test_a_saved_folder_arrives_with_its_card_and_loads(hub, tiny_gpt2, tmp_path):
    base = copy.deepcopy(tiny_gpt2)
    model = stir(attach(tiny_gpt2, method_config("lora", rank=2)))
    folder = save(model, tmp_path / "adapter", card={"data": "E2E NLG", "profile": "quick"})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "optimizer.pt").write_bytes(b"pickled")
    address = push_to_hub(folder, "me/adapter", card={"scores": {"BLEU": 0.5}}, token=TOKEN)
    assert address.startswith(hub.address)
    assert set(files(hub)) == set(before)
    assert files(hub)["adapter_model.safetensors"] == before["adapter_model.safetensors"]
    card = files(hub)["README.md"].decode()
    assert "| data | E2E NLG |" in card
    assert "| BLEU | 0.5 |" in card
    assert "not a reproduction" in card
    assert {name: (folder / name).read_bytes() for name in before} == before
    loaded = load(base, snapshot_download("me/adapter", cache_dir=tmp_path / "cache"))
    assert torch.equal(logits_of(loaded, some_ids()), logits_of(model, some_ids()))


def test_an_attached_model_and_a_trainers_folder(hub, model, tmp_path):
    push_to_hub(model, "me/adapter", token=TOKEN)
    assert json.loads(files(hub)["adapter_config.json"])["method"] == "lora"
    model.save_pretrained(tmp_path / "trainer")
    (tmp_path / "trainer" / "training_args.bin").write_bytes(b"pickled")
    push_to_hub(tmp_path / "trainer", "me/other", token=TOKEN, commit_message="Second")
    assert set(files(hub, "me/other")) == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors"),
        *("model.safetensors", "replication_config.json"),
    }
    model.save_pretrained(tmp_path / "third", push_to_hub=True, repo_id="me/third", token=TOKEN)
    assert files(hub, "me/third") == files(hub, "me/other")
    assert hub.commits == ["Upload adapter", "Second", "Upload adapter"]


@pytest.mark.parametrize("token", [None, "hf_of_a_reader"])
def test_a_refusal_names_the_fix_and_never_the_token(hub, model, token, caplog, monkeypatch):
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AdapterError, match=r"me/adapter: the hub refuses.*\(40[13]\).*`hf auth login`") as error:
        push_to_hub(model, "me/adapter")
    assert "hf_of_a_reader" not in f"{error.value}{error.value.__cause__}{caplog.text}"
    assert error.value.__suppress_context__
    assert not hub.repositories


def test_nothing_is_sent_of_a_damaged_or_foreign_folder(hub, model, tmp_path):
    folder = save(model, tmp_path / "adapter")
    data = bytearray((folder / "adapter_model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(data)
    with pytest.raises(AdapterError, match="damaged"):
        push_to_hub(folder, "me/adapter", token=TOKEN)
    with pytest.raises(AdapterError, match="no such file"):
        push_to_hub(tmp_path / "nothing", "me/adapter", token=TOKEN)
    with pytest.raises(ConfigError, match=r"unknown fact\(s\) score"):
        push_to_hub(model, "me/adapter", token=TOKEN, card={"score": {}})
    assert not hub.asked


def test_no_network_and_a_bad_name_are_named(loopback, model, tmp_path, monkeypatch):
    with loopback.serve() as running:
        loopback.reach(running, monkeypatch, tmp_path)
    with pytest.raises(AdapterError, match="me/adapter: the hub cannot be reached"):
        push_to_hub(model, "me/adapter", token=TOKEN)
    with pytest.raises(AdapterError, match="repo_id='me//adapter'"):
        push_to_hub(model, "me//adapter", token=TOKEN)


REFUSED = [("repos/create", 503), ("/preupload/", 503), ("/commit/", 503), ("/commit/", 429)]


@pytest.mark.parametrize(
    ("path", "status"), [REFUSED[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in REFUSED[1:])]
)
def test_a_busy_hub_is_asked_again_a_few_times(hub, model, monkeypatch, path, status):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    hub.busy.extend([("POST", path, status)] * 2)
    push_to_hub(model, "me/adapter", token=TOKEN)
    assert not hub.busy
    sent = dict(files(hub))
    hub.busy.extend([("POST", path, status)] * 1000)
    with pytest.raises(AdapterError, match="me/adapter"):
        push_to_hub(model, "me/adapter", token=TOKEN)
    assert len(hub.busy) > 960
    assert files(hub) == sent
