import pytest

from analysis.load.names import BASELINES, METHOD_NAMES, method_key, method_label, method_order
from analysis.load.runs import experiment_labels, load_profile
from replication.methods.baseline import FORMS


@pytest.mark.parametrize(
    ("method", "config", "label"),
    [
        ("lora", {"rank": 8}, "LoRA (r=8)"),
        ("weight_lora", {"rank": 8, "keep": 3, "selection_steps": 40}, "WeightLoRA (r=8, K=3)"),
        ("weight_lora", {"rank": 8, "keep": 3, "preset": "code_2025_02", "remove_losers": False},
         "WeightLoRA (r=8, K=3, code_2025_02)"),
        ("weight_lora", {"rank": 8, "keep": 3, "preset": "paper", "rank_by": "magnitude"},
         "WeightLoRA (r=8, K=3, by magnitude)"),
        ("weight_lora", {"rank": 8, "keep": 3, "selection_steps": None, "remove_losers": False},
         "WeightLoRA (r=8, K=3, losers kept, selection without end)"),
        ("weight_lora_plus", {"rank": 4, "keep": None, "expansion": "restart"}, "WeightLoRA+ (r=4, restart expansion)"),
        ("random_lora", {"rank": 8, "keep": 6}, "Random LoRA (r=8, K=6)"),
        ("peft_baselines", {"name": "dora", "settings": {"r": 8}}, "DoRA (r=8)"),
        ("peft_baselines", {"name": "adalora", "settings": {"r": 8, "target_r": 4}}, "AdaLoRA (r=4)"),
        ("peft_baselines", {"name": "boft", "settings": {}}, "boft"),
        ("frozen", {}, "Frozen backbone"),
        ("baseline", {"kind": "majority"}, "Majority class"),
        ("baseline", {"kind": "cosine"}, "Cosine of the untrained backbone"),
        ("baseline", {"kind": "commonest_choice"}, "Commonest answer"),
        ("baseline", {"kind": "longest_choice"}, "Longest answer"),
    ],
)  # fmt: skip
def test_labels_name_what_tells_variants_apart(method, config, label):
    assert method_label(method, config) == label


def test_a_peft_tuner_is_a_method_of_its_own():
    assert method_key("peft_baselines", {"name": "dora"}) == "dora"
    assert sorted(["vera", "new", "lora", "frozen"], key=method_order) == ["frozen", "lora", "vera", "new"]


def test_every_kind_of_baseline_has_a_name_and_stands_before_all_methods():
    keys = [method_key("baseline", {"kind": kind}) for kind in FORMS]
    assert tuple(keys) == BASELINES
    assert set(keys) <= set(METHOD_NAMES)
    assert max(map(method_order, keys)) < min(method_order(key) for key in METHOD_NAMES if key not in keys)


def test_tasks_are_named_where_there_are_several(task_runs):
    labels = experiment_labels(load_profile(task_runs))
    assert labels["my-rte-lora"] == "LoRA (r=8), RTE"
    assert len(set(labels.values())) == len(labels)
