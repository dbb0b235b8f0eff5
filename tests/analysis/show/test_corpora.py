from analysis.load.runs import load_profile
from analysis.show.page import column_class
from analysis.show.run_tables import corpora_block, licence_of, page_command, record_paths


def test_each_corpus_is_listed_once_with_its_licence(quick_runs):
    block = corpora_block(load_profile(quick_runs))
    (row,) = block.rows
    shown = dict(zip(block.headers, row, strict=True))
    assert shown["Licence"] == "Apache-2.0"
    assert (shown["Training examples"], shown["Test examples"], shown["Split"]) == ("2,400", "16", "test")
    assert str(column_class(block, block.headers.index("Licence")))  # text, not a number


def test_the_records_own_licence_goes_first(task_runs):
    experiments = load_profile(task_runs)
    block = corpora_block(experiments)
    assert len(block.rows) == 2
    assert {row[block.headers.index("Licence")] for row in block.rows} == {"CC BY 4.0"}
    corpus = experiments[0].record.corpus
    assert licence_of(corpus.model_copy(update={"licence": ""})) == "not stated"
    assert licence_of(corpus.model_copy(update={"licence": "", "name": "e2e"})) == "CC BY-SA 4.0"


def test_records_are_named_by_experiment_with_all_seeds(quick_runs):
    loaded = load_profile(quick_runs, ["lora", "frozen", "absent"])
    assert record_paths(loaded) == (
        "runs/quick/lora/training/seed-{18,52,1917}/record.json",
        "runs/quick/frozen/training/seed-18/record.json",
    )


def test_each_profile_has_a_command_of_its_own(project_root):
    assert page_command("quick") == "python -m pipelines.report --params params.yaml"
    for profile in ("quick", "cpu", "paper"):
        assert (project_root / page_command(profile).split(" ")[-1]).is_file()
