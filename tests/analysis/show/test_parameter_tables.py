from analysis.judge.study import Study
from analysis.load.runs import load_profile
from analysis.show.parameter_tables import counted_block, parameters_block


def rows_of(block):
    return {row[0]: dict(zip(block.headers, row, strict=True)) for row in block.rows}


def test_parameters_are_apart_and_ratios_say_of_what(task_study):
    rows = rows_of(parameters_block(task_study))
    ours = rows["WeightLoRA (r=8, K=3), MiniLM-L6"]
    assert ours["Adapter parameters in phase 1"] == "110,592"
    assert ours["Importance weights in phase 1"] == "18"
    assert ours["Adapter parameters at the end"] == "18,432"
    assert ours["of LoRA's adapter"] == "16.7 %"
    assert ours["of LoRA's trainable"] == "64.6 %"


def test_counts_by_arithmetic_are_not_called_trained(authors):
    block = counted_block(authors)
    assert block.caption.startswith("Counted, not trained")
    assert rows_of(block)["WeightLoRA, K=5"]["Adapter parameters"] == "61,440"


def test_seeds_that_train_different_numbers_are_a_range(project_root):
    names = ["llama-sentiment-lora", "llama-sentiment-weight-lora"]
    rows = rows_of(parameters_block(Study.of(load_profile(project_root / "runs/quick", names))))
    ours = rows["WeightLoRA (r=4, K=3), small Llama"]
    assert ours["Adapter parameters at the end"] == "1,728 to 2,112"
    assert ours["of LoRA's adapter"] == "15.0 % to 18.3 %"
