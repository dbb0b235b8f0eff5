import pytest

from analysis.load import names
from analysis.load.names import BASELINES, METHOD_NAMES, method_key, method_label, method_order
from replication.corpora.registry import CORPORA, describe
from replication.methods.baseline import FORMS


def test_every_method_has_a_place_and_a_name():
    assert sorted(names.METHOD_ORDER) == sorted(names.METHOD_NAMES)
    assert set(names.SELECTING) < set(names.METHOD_NAMES)


def test_no_two_things_are_called_alike():
    for words in (names.METHOD_NAMES, names.BACKBONE_NAMES, {**names.TASK_NAMES, **names.PART_NAMES}):
        assert len(set(words.values())) == len(words)


def test_every_task_corpus_has_a_name_and_a_part_is_called_one():
    others = {name for name in CORPORA if describe(name)["form"] != "generation"}
    assert set(names.TASK_NAMES) | set(names.PART_NAMES) == others
    assert {name for name in CORPORA if name.endswith("_subset")} < set(names.PART_NAMES)
    assert all(name.endswith("(part)") for key, name in names.PART_NAMES.items() if key.endswith("_subset"))


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
