"""Training one seed: where its start values, its order of rows and its task head come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import replication.training.loop as loop
from pipelines.shared.experiment import described, resolve
from pipelines.shared.fitting import fit, load_base
from pipelines.shared.settings import load_settings
from replication.backbones import build_fresh, get_backbone
from replication.backbones.hub_weights import fetch_hub_weights
from replication.backbones.vocabularies import special_tokens, train_tokenizer
from replication.fileio import write_text
from replication.methods import trainable_parameters
from replication.methods.selection import present_updates
from replication.training.bfloat16 import narrow_weights

PARAMS = Path("params.yaml")
BACKBONE = "microworld-deberta"
METHODS = ("sentiment-lora", "sentiment-weight-lora", "sentiment-random-lora", "sentiment-dora")
HEAD = ("pooler.", "classifier.")


class StartedError(Exception):
    """All is known that the loop was given."""


def rows(split, count):
    return [{"id": f"{split}-{n}", "text": f"{split} text {n}", "pair": None, "label": n % 2} for n in range(count)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the quick profile and fresh weights of its DeBERTa, which no stage has trained."""
    root, home = Path(__file__).resolve().parents[3], tmp_path_factory.mktemp("project")
    content = yaml.safe_load((root / "params.yaml").read_text())
    write_text(home / PARAMS, yaml.safe_dump(content))
    known, texts = get_backbone(BACKBONE), [row["text"] for row in rows("train", 9)]
    tokenizer = train_tokenizer(texts, 290, known.separator, architecture=known.architecture)
    torch.manual_seed(0)
    ids = special_tokens(known.architecture, known.separator).config_ids(tokenizer)
    model = build_fresh(BACKBONE, vocab_size=len(tokenizer), **ids)
    model.save_pretrained(home / "weights" / BACKBONE)
    tokenizer.save_pretrained(home / "weights" / BACKBONE)
    return home


@pytest.fixture
def plan_of(home, monkeypatch):
    monkeypatch.chdir(home)
    return lambda key: resolve(load_settings(PARAMS), key)


@pytest.fixture
def started(plan_of, monkeypatch):
    """A run up to its first update: the values that train, and what the loop was given."""

    def start(key, seed):
        given = {}

        def train(model, train_examples, dev_examples, config, *, seed, **_):
            values = {name: value.detach().clone() for name, value in trainable_parameters(model).items()}
            given.update(model=model, train=train_examples, dev=dev_examples, seed=seed, values=values)
            raise StartedError

        monkeypatch.setattr(loop, "train", train)
        with pytest.raises(StartedError):
            fit(plan_of(key), rows("train", 9), rows("dev", 4), seed=seed, title="test")
        return given

    return start


def drawn(values):
    """The values that chance decides: all but those that start at zero, at one, or as the norms of the body (DoRA)."""
    chance = {name: value for name, value in values.items() if value.unique().numel() > 1}
    return {name: value for name, value in chance.items() if "magnitude" not in name}


@pytest.mark.parametrize("key", METHODS)
def test_each_seed_has_start_values_a_task_head_and_an_order_of_its_own(plan_of, started, key):
    seeds = plan_of(key).seeds
    runs = {seed: started(key, seed) for seed in seeds}
    assert [run["seed"] for run in runs.values()] == list(seeds), "the loop orders rows and draws dropout by this"
    first, *others = (drawn(run["values"]) for run in runs.values())
    for other in others:
        common = first.keys() & other.keys()
        assert any(name.startswith(HEAD) for name in common)
        assert any(not name.startswith(HEAD) for name in first)
        same = [name for name in common if torch.equal(first[name], other[name])]
        assert not same, f"both seeds start from the same values: {same}"


@pytest.mark.parametrize("key", METHODS)
def test_one_seed_starts_from_the_same_values_each_time(started, key):
    one, again = started(key, 18), started(key, 18)
    assert one["values"].keys() == again["values"].keys()
    assert all(torch.equal(value, again["values"][name]) for name, value in one["values"].items())


def test_each_seed_draws_adapters_of_its_own(plan_of, started):
    key = "sentiment-random-lora"
    chosen = {seed: tuple(present_updates(started(key, seed)["model"])) for seed in plan_of(key).seeds}
    assert len(set(chosen.values())) == len(chosen), chosen


def test_the_head_follows_its_seed_and_the_body_does_not(plan_of):
    plan = plan_of("sentiment-lora")
    one, again, other = (load_base(plan, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    different = {name for name, value in one.items() if not torch.equal(value, other[name])}
    assert different
    assert all(name.startswith(HEAD) for name in different)


def test_the_loop_learns_from_the_training_rows_and_measures_the_dev_rows(plan_of, started):
    found = started("sentiment-lora", 18)
    assert [example.text for example in found["train"]] == [row["text"] for row in rows("train", 9)]
    assert [example.text for example in found["dev"]] == [row["text"] for row in rows("dev", 4)]


@pytest.mark.parametrize(
    ("key", "outputs"),
    [
        ("mnli-lora", 3),
        ("cola-lora", 2),
        ("stsb-lora", 1),
        ("squad_v1-lora", 2),
        ("llama-mnli-lora", 3),
        ("llama-stsb-lora", 1),
    ],
)
def test_weights_from_the_hub_get_their_head_from_the_seed(
    model_hub, project_root, tmp_path, monkeypatch, key, outputs
):
    experiment = resolve_paper(project_root, key)
    monkeypatch.chdir(tmp_path)
    fetch_hub_weights(experiment.backbone.name, experiment.weights)

    def parts(seed):
        model = load_base(experiment, seed)
        body = model.base_model_prefix + "."
        state = model.state_dict()
        head = {name: value for name, value in state.items() if not name.startswith(body)}
        return head, {name: value for name, value in state.items() if name.startswith(body)}

    (first, body), (again, _), (other, same_body) = parts(18), parts(18), parts(52)
    output = next(name for name in ("classifier.weight", "score.weight", "qa_outputs.weight") if name in first)
    assert first[output].shape[0] == outputs
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first[output], other[output])
    assert all(torch.equal(body[name], same_body[name]) for name in body)


@pytest.mark.parametrize("key", ["llama-mnli-lora", "cola-lora", "xsum-lora"])
def test_bfloat16_weights_are_those_cast_from_float32(model_hub, project_root, tmp_path, monkeypatch, key):
    experiment = resolve_paper(project_root, key)
    monkeypatch.chdir(tmp_path)
    fetch_hub_weights(experiment.backbone.name, experiment.weights)
    wide = narrow_weights(load_base(experiment.with_training(mixed_precision="no"), 18))
    drawn = torch.get_rng_state()
    narrow = load_base(experiment.with_training(mixed_precision="bf16_weights"), 18)
    assert torch.equal(torch.get_rng_state(), drawn)
    for found, expected in ((narrow.named_parameters, wide.named_parameters), (narrow.named_buffers,
                                                                               wide.named_buffers)):  # fmt: skip
        values = dict(expected())
        assert {name: value.dtype for name, value in found()} == {name: v.dtype for name, v in values.items()}
        assert all(torch.equal(value, values[name]) for name, value in found())


def resolve_paper(project_root, key):
    return described(load_settings(project_root / "pipelines" / "paper" / "params.yaml"), key)
