import csv
import io

from analysis.show.selection_tables import selected_block, selected_csv


def rows_of(block):
    return {row[0]: dict(zip(block.headers, row, strict=True)) for row in block.rows}


def test_selected_adapters_are_listed_by_seed(task_study):
    block = selected_block(task_study.experiments)
    row = rows_of(block)["WeightLoRA (r=8, K=3), CoLA"]
    assert row["Kept"] == "3 of 18"
    assert row["By seed"].startswith("18: ")
    assert row["By seed"].count(";") == 2
    assert row["By chance"] == "0.17"
    assert selected_block([]).rows == ()


def test_csv_holds_every_adapter(task_study):
    selected = list(csv.DictReader(io.StringIO(selected_csv(task_study.experiments))))
    one = [row for row in selected if (row["experiment"], row["seed"]) == ("my-cola-weight_lora-k3", "18")]
    assert len(one) == 18
    assert sum(row["kept"] == "true" for row in one) == 3
    assert all((row["final_rank"] == "8") == (row["kept"] == "true") for row in one)
