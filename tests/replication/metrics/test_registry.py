import subprocess
import sys

import pytest

import replication.metrics
from replication.errors import ConfigError
from replication.metrics import find, leading, named, reported, score_task

TEMPLATE = """
import numpy as np
from replication.metrics.metric import Metric, share

class Found(Metric):
    name = {name!r}
    label = "found"
    scale = "none"
    leads = {leads}
    reported_for = {{"summarisation": ("rouge",)}}

    def item_statistics(self, rows):
        return np.ones((len(rows), 2))

    def score(self, sums):
        return share(sums)

METRIC = {metric}
"""


@pytest.fixture
def write_metric(tmp_path, monkeypatch):
    """Write a metric into a folder that joins the package for one test."""
    monkeypatch.setattr(replication.metrics, "__path__", [*replication.metrics.__path__, str(tmp_path)])
    written = []

    def write(file, name="found", leads=False, metric="Found()"):
        (tmp_path / f"{file}.py").write_text(TEMPLATE.format(name=name, leads=leads, metric=metric))
        written.append(file)

    yield write
    for file in written:
        sys.modules.pop(f"replication.metrics.{file}", None)
        if hasattr(replication.metrics, file):
            delattr(replication.metrics, file)


def test_a_metric_is_found_by_its_file_and_imported_alone():
    code = (
        "import sys; from replication.metrics import find; metric = find('bleu'); print(metric.name, *sorted("
        "{'replication.metrics.' + name for name in ('accuracy', 'meteor', 'rouge', 'cider')} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["BLEU"]


def test_finding_every_metric_imports_nothing_heavy():
    code = (
        "import sys; from replication.metrics import names; assert 'BLEU' in names('generation'); print(sorted("
        "{'torch', 'transformers', 'datasets', 'evaluate', 'pandas', 'scipy', 'nltk'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_name_the_file_and_the_valid_names():
    with pytest.raises(
        ConfigError, match=r"metric 'charm': no file charm.py in .*; metrics are: acc, acc_norm, accuracy, "
    ):
        find("charm")
    with pytest.raises(ConfigError, match=r"metric 'ngrams': .*ngrams.py assigns no METRIC"):
        find("ngrams")
    with pytest.raises(ConfigError, match=r"'charm' of form regression.*valid names: pearson, spearman"):
        named("charm", "regression")
    with pytest.raises(ConfigError, match=r"'pearson' of form classification, protocol cola.*: matthews_correlation$"):
        named("pearson", "classification", "cola")
    with pytest.raises(ConfigError, match=r"'f1' .* depends on the protocol, one of squad_v1, squad_v2"):
        named("f1", "question_answering")
    with pytest.raises(ConfigError, match=r"valid names: none"):
        named("BLEU", "haiku")


def test_one_name_means_what_the_form_and_protocol_say():
    assert named("f1", "classification") is find("f1")
    assert named("f1", "question_answering", "squad_v1") is find("answer_f1")
    assert named("f1", "question_answering", "squad_v2") is find("answer_f1_v2")


def test_a_metric_may_lead_in_one_protocol_and_not_in_another():
    leaders = [leading(protocol).name for protocol in ("acc", "acc_norm", "rouge", "rouge_lsum")]
    assert leaders == ["acc", "acc_norm", "rougeL", "rougeLsum"]
    assert reported("acc") == reported("acc_norm")


def test_a_file_is_enough(write_metric):
    write_metric("found")
    assert [metric.name for metric in reported("rouge")] == ["found", "rouge1", "rouge2", "rougeL", "rougeLsum"]
    scores = score_task("rouge", [{"id": "a", "prediction": "x", "references": ["x"]}])
    assert scores["found"] == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"file": "second", "name": "rouge1"}, "rouge: rouge1.py and second.py are both called rouge1"),
        ({"file": "second", "leads": True}, "rouge: one of its metrics leads, not rougel.py and second.py"),
        ({"file": "second", "metric": "Found"}, r"second.py: METRIC is ABCMeta; it must be an instance"),
        ({"file": "second", "name": ""}, r"second.py: METRIC has no name"),
    ],
)
def test_a_metric_at_odds_with_another_or_itself_is_an_error_that_names_its_file(write_metric, given, message):
    write_metric(**given)
    with pytest.raises(ConfigError, match=message):
        leading("rouge")


@pytest.mark.parametrize(("resampled", "lacks"), [("exact", "item_statistics"), ("no", "official")])
def test_a_metric_defines_what_its_resampling_needs(write_metric, resampled, lacks):
    bare = "{key: value for key, value in vars(Found).items() if key not in ('item_statistics', 'score')}"
    write_metric("second", metric=f"type('Bare', (Metric,), {bare} | {{'resampled': {resampled!r}}})()")
    with pytest.raises(ConfigError, match=rf"second.py: METRIC has no method {lacks}, which resampled='{resampled}'"):
        reported("rouge")


def test_a_metric_that_is_not_resampled_needs_only_its_official_score(write_metric):
    score = "{'name': 'own', 'resampled': 'no', 'official': lambda self, rows, programs: 0.5}"
    bare = "{key: value for key, value in vars(Found).items() if key not in ('item_statistics', 'score')}"
    write_metric("second", metric=f"type('Own', (Metric,), {bare} | {score})()")
    scores = score_task("rouge", [{"id": "a", "prediction": "x", "references": ["x"]}])
    assert scores["own"] == 0.5
