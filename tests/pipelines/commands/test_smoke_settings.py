"""Settings of a smoke run: what fits the machine stays, schedules fit a few steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.commands.smoke_settings import LEAST_STEPS, Size, smoke_settings, write_smoke_settings
from pipelines.shared.experiment import described
from pipelines.shared.settings import Settings, load_settings
from replication.errors import ConfigError

FILES = ("params.yaml", "pipelines/cpu/params.yaml", "pipelines/paper/params.yaml")
SMALL = Size(LEAST_STEPS, 1, 8)
sizes = st.builds(Size, st.integers(LEAST_STEPS, 60), st.integers(1, 4), st.integers(1, 300))


@pytest.fixture(scope="module", params=FILES)
def profile(request, project_root):
    return load_settings(project_root / request.param)


@settings(max_examples=15)
@given(size=sizes)
def test_every_task_has_a_batch_and_keeps_what_decides_on_memory(profile, size):
    small = Settings.model_validate(smoke_settings(profile, size, 4))
    assert small.profile == f"smoke-{profile.profile}"
    assert small.decoding == profile.decoding
    for key, task in small.tasks.items():
        real = {**profile.training, **profile.tasks[key].training}
        training = {**small.training, **task.training}
        same = ("batch_size", "max_length", "mixed_precision", "gradient_checkpointing", "label_smoothing", "batching")
        assert all(training.get(name) == real.get(name) for name in same)
        assert task.options == profile.tasks[key].options
        few = profile.tasks[key].train_examples
        window = training["batch_size"] * training["accumulation_steps"]
        assert task.train_examples >= (window if few is None else min(window, few))
        assert task.test_items <= size.examples
        if profile.tasks[key].dev_examples is None and task.form != "generation":
            assert task.dev_examples is None, "an empty dev split stays empty"


@pytest.mark.parametrize("steps", [LEAST_STEPS, 6, 20])
def test_every_method_of_every_experiment_fits_the_steps(profile, steps, tmp_path):
    small = write_smoke_settings(profile, Size(steps, 1, 8), 2, tmp_path)
    seen = set()
    for key, row in small.experiments.items():
        experiment = described(small, key)
        if (kind := (row.method, row.settings, experiment.training.steps)) in seen:
            continue
        seen.add(kind)
        config = experiment.methods[experiment.seeds[0]]
        config.training_callback(experiment.training)  # a step beyond the end is refused
        assert experiment.training.steps == steps
        if row.method in ("weight_lora", "weight_lora_plus") and config.last_step() is not None:
            assert 3 <= config.last_step() < steps, "an update follows the last removal"


def test_a_search_that_an_experiment_waits_for_tries_two_rates(project_root):
    paper = load_settings(project_root / "pipelines/paper/params.yaml")
    small = Settings.model_validate(smoke_settings(paper, SMALL, 2))
    assert small.searches == paper.searches
    assert small.experiments["cola-frozen"].rate_from == "glue-frozen"
    for plan in small.search.values():
        assert (len(plan.learning_rates), plan.steps, len(plan.seeds), plan.extensions) == (2, LEAST_STEPS, 1, 0)
    quick = Settings.model_validate(smoke_settings(load_settings(project_root / "params.yaml"), SMALL, 2))
    assert quick.searches == {}, "nothing there waits for one"


@pytest.mark.parametrize(("values", "named"), [((4, 1, 1), "--steps 4"), ((5, 0, 1), "--seeds 0"),
                                               ((5, 1, 0), "--examples 0")])  # fmt: skip
def test_a_size_that_cannot_be_run_is_named(values, named):
    with pytest.raises(ConfigError, match=named):
        Size(*values)
