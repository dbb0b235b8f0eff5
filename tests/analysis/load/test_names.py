import json

import pytest

from analysis.load import names
from analysis.load.names import BASELINES, METHOD_NAMES, method_key, method_label, method_order, planned_end
from replication.corpora.registry import CORPORA, describe
from replication.methods import method_config
from replication.methods.baseline import FORMS


def test_every_method_has_a_place_and_a_name():
    assert sorted(names.METHOD_ORDER) == sorted(names.METHOD_NAMES)
    assert set(names.SELECTING) < set(names.METHOD_NAMES)


def test_no_two_things_are_called_alike():
    for words in (names.METHOD_NAMES, names.BACKBONE_NAMES, {**names.TASK_NAMES, **names.PART_NAMES}):
        assert len(set(words.values())) == len(words)


def test_every_task_corpus_has_a_name_and_a_part_is_called_one():
    others = {name for name in CORPORA if describe(name)["form"] != "generation"}
    assert set(names.TASK_NAMES) | set(names.PART_NAMES) == others | {"e2e"}
    assert {name for name in CORPORA if name.endswith("_subset")} < set(names.PART_NAMES)
    assert all(name.endswith("(part)") for key, name in names.PART_NAMES.items() if key.endswith("_subset"))


@pytest.mark.parametrize(
    ("method", "config", "label"),
    [
        ("lora", {"rank": 8}, "LoRA (r=8)"),
        ("adapter_h", {"bottleneck": 112, "train_layer_norms": False}, "Adapter-H (m=112, norms fixed)"),
        ("adapter_l", {"bottleneck": 6}, "Adapter-L (m=6)"),
        ("ft_top2", {"blocks": 2}, "FT-Top2"),
        ("weight_lora", {"rank": 8, "keep": 3, "selection_steps": 40}, "WeightLoRA (r=8, K=3)"),
        ("weight_lora", {"rank": 8, "keep": 3, "preset": "code_2025_02", "remove_losers": False},
         "WeightLoRA (r=8, K=3, code_2025_02, losers kept)"),
        ("weight_lora", {"rank": 8, "keep": 3, "preset": "paper", "rank_by": "magnitude"},
         "WeightLoRA (r=8, K=3, by magnitude)"),
        ("weight_lora", {"rank": 8, "keep": 3, "selection_steps": None, "remove_losers": False},
         "WeightLoRA (r=8, K=3, losers kept, selection without end)"),
        ("weight_lora_plus", {"rank": 4, "keep": None, "expansion": "restart"},
         "WeightLoRA+ (K=all→1/4, r=4→16, restart expansion)"),
        ("weight_lora_plus", {"rank": 8, "keep": 6, "expansions": 1}, "WeightLoRA+ (K=6→3, r=8→16)"),
        ("weight_lora_plus", {"rank": 2, "keep": 25, "expansions": 3}, "WeightLoRA+ (K=25→3, r=2→16)"),
        ("weight_lora_plus", {"rank": 4, "preset": "code_2025_02", "remove_losers": False},
         "WeightLoRA+ (r=4, code_2025_02, losers kept)"),  # its rounds are not among the settings
        ("weight_lora_plus", {"keep": 6}, "WeightLoRA+ (K=6)"),
        ("random_lora", {"rank": 8, "keep": 6}, "Random LoRA (r=8, K=6)"),
        ("peft_baselines", {"name": "dora", "settings": {"r": 8}}, "DoRA (r=8)"),
        ("peft_baselines", {"name": "adalora", "settings": {"target_r": 4}}, "AdaLoRA (r=4 on average)"),
        ("peft_baselines", {"name": "adalora", "settings": {"init_r": 12, "target_r": 8}},
         "AdaLoRA (r=12→8 on average)"),
        ("peft_baselines", {"name": "vera", "settings": {"r": 64}}, "VeRA (r=64)"),
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


@pytest.mark.parametrize("keep", [None, 5, 6, 24])
@pytest.mark.parametrize("expansions", [1, 2])
def test_the_end_is_the_last_milestone_of_the_method(keep, expansions):
    """The label's arithmetic is that of the method, which halves K and doubles the rank."""
    config = method_config("weight_lora_plus", rank=4, keep=keep, expansions=expansions)
    last = config.milestones(24)[-1]
    known = {"rank": 4, "keep": keep, "expansions": expansions}
    end, rank = planned_end("weight_lora_plus", known)
    assert rank == last.rank
    assert end == (None if keep is None else last.keep)
    label = method_label("weight_lora_plus", known)
    assert f"r=4→{last.rank}" in label
    if keep is None:
        assert 24 // int(label.split("1/")[1].split(",")[0]) == last.keep
    else:
        assert f"K={keep}→{last.keep}," in label
    assert len(label) <= 32  # of a phone's line


def test_settings_left_out_are_the_methods_own():
    config = method_config("weight_lora_plus")
    assert config.expansions == names.DEFAULT_EXPANSIONS
    assert method_label("weight_lora_plus", {"rank": 8, "keep": 20}) == "WeightLoRA+ (K=20→5, r=8→32)"


def test_labels_say_what_the_committed_runs_trained_at_the_end(project_root):
    seen = 0
    for path in (project_root / "runs").glob("*/*/training/*/selection.json"):
        record, selection = json.loads(path.with_name("record.json").read_text()), json.loads(path.read_text())
        keep, rank = planned_end(record["method"], record["method_config"])
        label = method_label(record["method"], record["method_config"])
        assert len(selection["survivors"]) == keep, path
        assert set(selection["final_ranks"].values()) == {rank}, path
        assert f"r={rank}" in label or f"→{rank}" in label
        assert f"K={keep}" in label or f"→{keep}" in label
        seen += 1
    assert seen > 50
