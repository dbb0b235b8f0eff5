import json
import shutil

import pytest

from analysis.load.runs import (
    Planned,
    discover,
    disk_use,
    experiment_labels,
    load_experiment,
    load_profile,
    questions,
    read_all_costs,
    read_curves,
    read_metrics,
    read_rows,
)
from replication.errors import DataError
from replication.fileio import read_json, read_jsonl, sha256_file, write_json, write_jsonl
from replication.predictions import compact, gold


@pytest.fixture
def run(quick_runs, tmp_path):
    """A copy of one experiment that a test may damage."""
    return shutil.copytree(quick_runs / "lora", tmp_path / "runs" / "quick" / "lora")


def change(path, edit):
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_whole_run_is_complete(quick_runs):
    experiments = load_profile(quick_runs)
    assert [e.name for e in experiments] == ["frozen", "full", "lora", "solo_connection"]
    assert {e.status for e in experiments} == {"complete"}
    assert all(e.problems == () for e in experiments)
    lora = experiments[2]
    assert lora.seeds == (18, 52, 1917)
    assert list(lora.records) == list(lora.curves) == list(lora.predictions) == [18, 52, 1917]
    assert lora.record.counts.adapter == 12_288
    assert lora.metrics.values("BLEU") == [lora.metrics.seeds[seed]["BLEU"] for seed in (18, 52, 1917)]


def test_names_and_order_are_the_callers(quick_runs):
    experiments = load_profile(quick_runs, ["solo_connection", "absent", "full"])
    assert [(e.name, e.status) for e in experiments] == [
        ("solo_connection", "complete"),
        ("absent", "missing"),
        ("full", "complete"),
    ]


@pytest.mark.parametrize(
    "part",
    [
        "scores.json",
        "predictions",
        "predictions/seed-52.jsonl",
        "training/seed-52/record.json",
        "training/seed-52/curves.csv",
        "training/seed-52",
    ],
)
def test_a_part_that_is_not_there_yet_makes_a_run_incomplete(run, part):
    path = run / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    experiment = load_experiment(run)
    assert experiment.status == "incomplete"
    assert any(part.split("/")[0] in problem for problem in experiment.problems)


@pytest.mark.parametrize(
    "part",
    [
        "scores.json",
        "predictions/seed-52.jsonl",
        "training/seed-52/record.json",
        "training/seed-52/curves.csv",
    ],
)
@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00", b"step,loss\n1,x\n"])
def test_a_broken_file_fails_the_run_and_is_named(run, part, content):
    (run / part).write_bytes(content)
    experiment = load_experiment(run)
    if (part, content) == ("predictions/seed-52.jsonl", b""):  # no items at all contradicts the other seeds
        assert experiment.status == "failed"
        return
    assert experiment.status == "failed"
    assert any(part in problem for problem in experiment.problems)


def test_scores_of_older_runs_stand_in_metrics_json(run):
    found = load_experiment(run).metrics
    (run / "scores.json").rename(run / "metrics.json")
    assert load_experiment(run).metrics == found
    (run / "metrics.json").write_text('{"BLEU": 0.5}')
    experiment = load_experiment(run)
    assert experiment.status == "incomplete"
    assert "scores.json" in experiment.problems[0]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(BLEU=0.1), "BLEU is 0.1, which is not the mean"),
        (lambda c: c.update(METEOR=None), "METEOR is None"),
        (lambda c: c.update(items=0), "items"),
        (lambda c: c.update(seeds={}), "seeds"),
        (lambda c: c["seeds"]["18"].pop("NIST"), "seeds.18 has no NIST"),
        (lambda c: c.update(ACCURACY=1), "ACCURACY"),
        (lambda c: c.pop("CIDEr"), "CIDEr"),
    ],
)
def test_metrics_that_contradict_themselves_are_refused(run, edit, message):
    change(run / "scores.json", edit)
    with pytest.raises(DataError, match=message) as caught:
        read_metrics(run / "scores.json")
    assert "scores.json" in str(caught.value)
    assert load_experiment(run).status == "failed"


def test_parts_that_contradict_each_other_fail_the_run(run):
    change(run / "scores.json", lambda c: c.update(items=15))
    experiment = load_experiment(run)
    assert experiment.status == "failed"
    assert any("items is 15, but predictions hold [16]" in problem for problem in experiment.problems)


def test_seeds_that_answer_other_items_fail_the_run(run):
    path = run / "predictions" / "seed-52.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[0])
    row["references"] = ["something else"]
    path.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n", encoding="utf-8")
    assert any("different items" in problem for problem in load_experiment(run).problems)


def with_gold_file(run):
    """The run's predictions without labels, which are then in a gold file."""
    for path in sorted((run / "predictions").glob("seed-*.jsonl")):
        rows = read_jsonl(path)
        golden = write_jsonl(run.parents[2] / "gold" / "quick" / "task.jsonl", gold(rows))
        write_jsonl(path, compact(rows))
    write_json(
        run / "predictions" / "decoding.json", {"gold": "gold/quick/task.jsonl", "gold_sha256": sha256_file(golden)}
    )
    return golden


def test_a_run_with_a_gold_file_is_read_like_one_without(run):
    before = load_experiment(run)
    golden = with_gold_file(run)
    after = load_experiment(run)
    assert (after.status, after.predictions) == ("complete", before.predictions)
    golden.write_text("")
    experiment = load_experiment(run)
    assert experiment.status == "stale"
    assert "prepared again after this run; `dvc repro predict@lora` predicts again" in experiment.problems[0]


def test_predictions_that_changed_after_scoring_make_the_run_stale(run):
    path = run / "scores.json"
    hashes = {seed: sha256_file(run / "predictions" / f"seed-{seed}.jsonl") for seed in (18, 52, 1917)}
    write_json(path, {**read_json(path), "predictions_sha256": hashes})
    assert load_experiment(run).status == "complete"
    write_json(path, {**read_json(path), "predictions_sha256": {**hashes, 52: "0" * 64}})
    experiment = load_experiment(run)
    assert experiment.status == "stale"
    assert "seed-52.jsonl, sha256: " in experiment.problems[0]
    assert "it has changed since; `dvc repro -s score@lora` scores again" in experiment.problems[0]


def test_a_copied_folder_does_not_pass_for_another_experiment(run):
    other = run.rename(run.with_name("lora-2"))
    experiment = load_experiment(other)
    assert experiment.status == "failed"
    assert any("quick/lora" in problem and "lora-2" in problem for problem in experiment.problems)


def test_a_seed_that_was_not_scored_makes_a_run_incomplete(run):
    shutil.copytree(run / "training" / "seed-18", run / "training" / "seed-99")
    change(run / "training" / "seed-99" / "record.json", lambda c: c.update(seed=99, adapter=None))
    experiment = load_experiment(run)
    assert experiment.status == "incomplete"
    assert any("no seed 99" in problem for problem in experiment.problems)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c["training"].update(steps=7), "training: differs from the other seeds'"),
        (lambda c: c["method_config"].update(rank=7), "method_config: differs from the other seeds'"),
        (lambda c: c["corpus"].update(train_examples=7), "corpus: differs from the other seeds'"),
    ],
)
def test_a_seed_that_was_trained_otherwise_is_no_seed_of_the_run(run, edit, words):
    assert load_experiment(run).status == "complete"
    change(run / "training" / "seed-18" / "record.json", edit)
    experiment = load_experiment(run)
    assert experiment.status == "failed"
    told = [problem for problem in experiment.problems if words in problem]
    assert len(told) == 1
    assert "seed-18" in told[0], "the odd one is named, whichever comes first"


def test_seeds_differ_in_what_their_own_draws_set(run):
    change(
        run / "training" / "seed-52" / "record.json",
        lambda c: c["method_config"].update(init_seed=52, selection_seed=5),
    )
    assert not any("method_config" in problem for problem in load_experiment(run).problems)


def test_a_copy_of_a_seed_is_no_second_run(run):
    other = json.loads((run / "training" / "seed-18" / "record.json").read_text())["adapter"]["sha256"]
    change(run / "training" / "seed-52" / "record.json", lambda c: c["adapter"].update(sha256=other))
    experiment = load_experiment(run)
    assert experiment.status == "failed"
    assert any("the file of seed 18 again" in problem for problem in experiment.problems)


def test_a_number_with_zeros_before_it_names_no_seed(run):
    (run / "predictions" / "seed-018.jsonl").write_text("", encoding="utf-8")
    assert load_experiment(run).status == "complete"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss,dev_loss,learning_rate\n1,2,,0.1\n2,oops,,0.1\n", "row 3, column loss: 'oops'"),
        ("step,loss,learning_rate\n1,2,0.1\n", "column 'dev_loss' is missing"),
        ("step,loss,dev_loss,learning_rate\n2,2,,0.1\n1,2,,0.1\n", "goes back"),
        ("step,loss,dev_loss,learning_rate\n,2,,0.1\n", "gaps"),
    ],
)
def test_curves_are_checked_row_by_row(tmp_path, text, message):
    path = tmp_path / "curves.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_curves(path)
    assert "curves.csv" in str(caught.value)


def test_costs_may_be_absent_and_are_checked_when_there(run):
    costs = read_all_costs(run)
    assert sorted(costs) == ["generation", "training"]
    assert sorted(costs["training"]) == [18, 52, 1917]
    change(run / "cost" / "training.json", lambda c: c["18"].update(seconds=-1))
    with pytest.raises(DataError, match=r"training\.json.*seconds"):
        read_all_costs(run)
    shutil.rmtree(run / "cost")
    assert read_all_costs(run) == {}
    assert load_experiment(run).status == "complete"


def test_discovery_passes_over_folders_without_results(run):
    root = run.parents[1]
    (root / "search" / "lora").mkdir(parents=True)
    (root / "search" / "lora" / "search.json").write_text("{}", encoding="utf-8")
    (root / ".hidden" / "x").mkdir(parents=True)
    assert [(e.profile, e.name) for e in discover(root)] == [("quick", "lora")]
    assert discover(root, "cpu") == []
    assert discover(root / "nowhere") == []


def test_disk_use_counts_every_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1234")
    (tmp_path / "y").write_bytes(b"56")
    assert disk_use(tmp_path) == 6


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(schema_version=2), "schema_version: is 2, this release reads 1"),
        (lambda c: c.pop("schema_version"), "schema_version: missing"),
        (lambda c: c.update(schema_version="1"), "schema_version: is '1'"),
    ],
)
def test_a_record_of_another_schema_version_names_file_and_field(run, edit, message):
    change(run / "training" / "seed-52" / "record.json", edit)
    experiment = load_experiment(run)
    assert experiment.status == "failed"
    (problem,) = [problem for problem in experiment.problems if "schema_version" in problem]
    assert "seed-52/record.json, " in problem
    assert message in problem


def test_a_seed_of_the_plan_that_was_never_run_is_missed(run):
    assert load_experiment(run, Planned("b", "t", "lora", seeds=(18, 52, 1917))).status == "complete"
    experiment = load_experiment(run, Planned("b", "t", "lora", seeds=(18, 52, 1917, 7)))
    assert experiment.status == "incomplete"
    assert any(problem.endswith("training: no seed 7") for problem in experiment.problems)


def rename(folder, name):
    """A copy of an experiment that calls itself by its new name everywhere."""
    other = shutil.copytree(folder, folder.with_name(name))
    for path in [other / "scores.json", *other.glob("training/*/record.json")]:
        change(path, lambda c: c.update(experiment=name))
    return other


def test_two_records_for_one_cell_are_found(run):
    rename(run, "lora-again")
    first, second = load_profile(run.parent)
    assert (first.status, second.status) == ("complete", "failed")
    assert "lora-again/training/seed-18/record.json, seed: the same backbone" in second.problems[0]
    assert "as " + str(run / "training" / "seed-18" / "record.json") in second.problems[0]
    assert [e.status for e in discover(run.parents[1])] == ["complete", "failed"]


@pytest.mark.parametrize(
    "edit", [lambda c: c["method_config"].update(rank=5), lambda c: c["training"].update(learning_rate=0.5),
             lambda c: c.update(backbone="another"), lambda c: c["corpus"].update(name="another")],
)  # fmt: skip
def test_runs_that_differ_in_anything_are_two_cells(run, edit):
    other = rename(run, "lora-other")
    for path in other.glob("training/*/record.json"):
        change(path, edit)
    assert [e.status for e in load_profile(run.parent)] == ["complete", "complete"]


def write_scores(path, **changes):
    content = {
        "profile": "cpu", "experiment": "my-mrpc-lora", "form": "classification", "items": 4,
        "metrics": ["accuracy", "f1"], "primary": "f1", "accuracy": 0.75, "f1": 0.5,
        "spread": {"accuracy": 0.1, "f1": None},
        "seeds": {"18": {"accuracy": 0.5, "f1": 0.4}, "52": {"accuracy": 1.0, "f1": 0.6}},
    }  # fmt: skip
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def test_any_form_names_its_metrics_and_its_primary_one(tmp_path):
    metrics = read_metrics(write_scores(tmp_path / "scores.json"))
    assert (metrics.form, metrics.primary, metrics.metrics) == ("classification", "f1", ("accuracy", "f1"))
    assert metrics.means == {"accuracy": 0.75, "f1": 0.5}
    assert metrics.values("accuracy") == [0.5, 1.0]


def test_a_file_without_form_is_a_generation_task_as_before(quick_runs):
    metrics = load_experiment(quick_runs / "lora").metrics
    assert (metrics.form, metrics.primary) == ("generation", "BLEU")
    assert metrics.metrics == ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr")
    assert "BLEU" in metrics.means


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primary": "bleu"}, "primary is 'bleu'"),
        ({"accuracy": 0.7}, "accuracy is 0.7, which is not the mean"),
        ({"metrics": ["accuracy", "f1", "mcc"]}, "mcc is missing"),
        ({"metrics": ["accuracy"]}, "f1"),
        ({"metrics": "accuracy"}, "expected a list of names"),
        ({"seeds": {"18": {"accuracy": 0.75}}}, "seeds.18 has no f1"),
        ({"f1": None}, "f1 is None"),
        ({"metrics": []}, "metrics"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read_metrics(write_scores(tmp_path / "scores.json", **changes))


ROWS = {
    "classification": {"id": "a", "prediction": 1, "label": 0, "logits": [0.1, 0.2]},
    "regression": {"id": "a", "prediction": 2.5, "label": 3.0},
    "question_answering": {"id": "a", "prediction": "x", "answers": [], "no_answer_score": 0.5},
    "multiple_choice": {"id": "a", "prediction": 2, "label": 2, "scores": [0.1]},
    "summarisation": {"id": "a", "prediction": "x", "references": ["y"]},
}


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ROWS)
def test_rows_of_every_form_are_read_and_recognised(tmp_path, form):
    path = write_rows(tmp_path / "seed-18.jsonl", ROWS[form])
    assert read_rows(path, form) == [ROWS[form]]
    assert read_rows(path, None) == [ROWS[form]]


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        ("classification", {"prediction": 1.5}, "line 1: field 'prediction' is 1.5"),
        ("classification", {"label": True}, "field 'label' is True"),
        ("regression", {"prediction": "x"}, "field 'prediction' is 'x'"),
        ("question_answering", {"answers": "x"}, "field 'answers'"),
        ("summarisation", {"references": [1]}, "field 'references'"),
        ("multiple_choice", {"id": 3}, "field 'id'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, form, changes, message):
    path = write_rows(tmp_path / "seed-18.jsonl", {**ROWS[form], **changes})
    with pytest.raises(DataError, match=message):
        read_rows(path, form)


@pytest.mark.parametrize("form", ROWS)
def test_compact_rows_are_read_with_their_gold_file(tmp_path, form):
    folder = tmp_path / "runs" / "quick" / "a" / "predictions"
    golden = write_jsonl(tmp_path / "gold" / "quick" / "task.jsonl", gold([ROWS[form]]))
    write_json(folder / "decoding.json", {"gold": "gold/quick/task.jsonl", "gold_sha256": sha256_file(golden)})
    path = write_jsonl(folder / "seed-18.jsonl", compact([ROWS[form]]))
    assert read_rows(path, form) == read_rows(path, None) == [ROWS[form]]
    write_jsonl(golden, [{"id": "a", "label": "wrong", "answers": "wrong", "references": "wrong"}])
    with pytest.raises(DataError, match="the task was prepared again after this run"):
        read_rows(path, form)


def test_an_item_stands_once_in_every_form(tmp_path):
    path = write_rows(tmp_path / "seed-18.jsonl", ROWS["regression"], ROWS["regression"])
    with pytest.raises(DataError, match="line 2: duplicate id 'a'"):
        read_rows(path, "regression")
    with pytest.raises(DataError, match="line 2: duplicate id 'a'"):
        read_rows(path, "poetry")


def test_rows_of_a_form_that_is_new_here_need_only_an_id(tmp_path):
    rows = [{"id": "a", "prediction": "x", "label": 1}, {"id": "b", "label": 2}]
    assert read_rows(write_rows(tmp_path / "seed-18.jsonl", *rows), "poetry") == rows


def test_questions_are_what_was_asked_and_what_is_right():
    row = ROWS["classification"]
    assert questions([row]) == questions([{**row, "prediction": 0, "logits": [1, 2]}])
    assert questions([row]) != questions([{**row, "label": 1}])
    assert questions([row]) != questions([{**row, "subset": "matched"}])


def test_a_task_experiment_is_complete_and_has_its_selections(task_runs):
    experiments = {e.name: e for e in load_profile(task_runs)}
    assert {e.status for e in experiments.values()} == {"complete"}
    assert {e.form for e in experiments.values()} == {"classification"}
    assert list(experiments["my-cola-weight_lora-k3"].selections) == [18, 52, 1917]
    assert experiments["my-cola-lora"].selections == {}


def test_parts_of_a_task_experiment_that_are_missing_or_contradict(write_task_runs, tmp_path):
    runs = write_task_runs(tmp_path, tasks=("rte",), methods=("weight_lora-k3",), seeds=(18, 52), items=20)
    folder = runs / "my-rte-weight_lora-k3"
    (folder / "training" / "seed-52" / "selection.json").unlink()
    experiment = load_experiment(folder)
    assert experiment.status == "incomplete"
    assert "seed-52/selection.json: not there yet" in experiment.problems[0]
    (folder / "training" / "seed-52" / "selection.json").write_text('{"method": "weight_lora"}', encoding="utf-8")
    assert load_experiment(folder).status == "failed"
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    (folder / "scores.json").write_text(json.dumps({**content, "form": "multiple_choice"}), encoding="utf-8")
    problems = " ".join(load_experiment(folder).problems)
    assert "form is multiple_choice, but the records have classification" in problems


def test_tasks_are_named_where_there_are_several(task_runs):
    labels = experiment_labels(load_profile(task_runs))
    assert labels["my-rte-lora"] == "LoRA (r=8), RTE"
    assert len(set(labels.values())) == len(labels)


@pytest.mark.parametrize("named", [{"lora": {}}, {}, None])
def test_a_run_that_params_no_longer_has_is_removed(tmp_path, quick_runs, named):
    for name in ("lora", "full"):
        shutil.copytree(quick_runs / name, tmp_path / "runs/quick" / name)
    before = {one.name: one.status for one in discover(tmp_path / "runs")}
    (tmp_path / "params.yaml").write_text(json.dumps({"profile": "quick", "experiments": named}))
    after = {one.name: one for one in discover(tmp_path / "runs")}
    for name, status in before.items():
        assert after[name].status == (status if name in (named or ()) else "removed")
    assert "has no such experiment" in after["full"].problems[0]
    (tmp_path / "params.yaml").write_text(json.dumps({"profile": "cpu"}))
    assert {one.name: one.status for one in discover(tmp_path / "runs")} == before


def test_a_run_is_held_to_the_seeds_of_the_params_file_around_it(tmp_path, quick_runs):
    for name in ("lora", "full"):
        shutil.copytree(quick_runs / name, tmp_path / "runs/quick" / name)
    plan = {"lora": {"seeds": [18, 52, 1917, 7]}, "full": {"seeds": [18, 52, 1917]}}
    (tmp_path / "params.yaml").write_text(json.dumps({"profile": "quick", "experiments": plan}))
    for found in (load_profile(tmp_path / "runs/quick"), discover(tmp_path / "runs")):
        status = {one.name: one.status for one in found}
        assert status == {"lora": "incomplete", "full": "complete"}
    (lora,) = load_profile(tmp_path / "runs/quick", ["lora"])
    assert "no seed 7" in lora.problems[0]


@pytest.mark.parametrize(
    ("experiments", "words"),
    [
        ([1], "experiments is no mapping"),
        ({"lora": [18]}, r"experiments\.lora is no mapping"),
        ({"lora": {"seeds": 18}}, r"experiments\.lora\.seeds: 18 is no list of whole numbers"),
        ({"lora": {"seeds": [18, "52"]}}, r"experiments\.lora\.seeds: .* is no list"),
    ],
)
def test_a_params_file_that_names_no_seeds_is_told_by_its_field(tmp_path, quick_runs, experiments, words):
    shutil.copytree(quick_runs / "lora", tmp_path / "runs/quick/lora")
    (tmp_path / "params.yaml").write_text(json.dumps({"profile": "quick", "experiments": experiments}))
    with pytest.raises(DataError, match=rf"params\.yaml: {words}"):
        load_profile(tmp_path / "runs/quick")
