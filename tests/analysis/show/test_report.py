import base64
import hashlib
import html
import html.parser
import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from analysis.judge.claims import load_bench, verdict_list
from analysis.load.runs import Planned
from analysis.show.blocks import Block, Cell
from analysis.show.report import build_report, main, replaced_parts
from analysis.show.sections import Section
from replication.errors import DataError

TABLES = ("results", "differences_from_lora", "claims", "comparisons_solo", "corpora", "cost", "seeds",
          "parameters_counted", "authors_logs", "authors_differences", "weightlora_rates", "weightlora_settings",
          "authors_code")  # fmt: skip
PAGES = ("claims", "solo", "weightlora", "authors", "runs", "reading", "sources")


def build(runs, output, **changes):
    """Every page by its name; the first is `index`."""
    settings = {"profile": runs.name, "runs": runs, "output": output, "sections": ()}
    index = build_report(**{**settings, **changes})
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted((output / "pages").iterdir())}
    return {"index": index.read_text(encoding="utf-8"), **found}


def text_of(page):
    """The page's text without tags, scripts and drawings."""
    page = re.sub(r"<style>.*?</style>|<script>.*?</script>|<svg .*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").replace("\u2011", "-")


def digests(folder, *, without=("cost.html", "cost.csv")):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


class Tags(html.parser.HTMLParser):
    """Collects ids and checks that tags close in order."""

    VOID = frozenset(["meta", "link", "br", "hr", "img"])

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references = [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        self.references += [values[name] for name in ("href", "src", "xlink:href") if name in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def quickly(monkeypatch):
    """For tests of the pages' words: no figures, and a coarser bootstrap."""
    from analysis.show.report import _Drawings

    none = {"forest": None, "published": None, "scores": None}
    monkeypatch.setattr("analysis.show.report._drawings", lambda *_: _Drawings(none, [], []))
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 100)


@pytest.fixture(scope="module")
def built(quick_runs, tmp_path_factory, without_png):
    output = tmp_path_factory.mktemp("reports") / "quick"
    page = build(
        quick_runs,
        output,
        experiments=["full", "frozen", "lora", "solo_connection"],
        deviations=["Raw references <b>instead</b> of word-tokenised ones."],
    )
    return output, page


def test_the_first_page_answers_and_the_rest_is_one_link_away(built):
    _, pages = built
    page = pages["index"]
    text = text_of(page)
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "The papers' claims and what we found", "What this is, and what it cannot say", "Results", "Figures",
        "Everything else",
    ]  # fmt: skip
    assert re.findall(r"<h3>(.*?)</h3>", page) == [
        "Every claim that compares runs", "Published and measured differences", "Every method&#39;s score",
    ]  # fmt: skip
    assert re.findall(r"<b>Figure (\d)\.</b>", page) == ["1", "2", "3"]
    assert "embedded synthetic corpus" in text
    assert "It is not a reproduction" in text
    assert "Solo Connection (r=12, k=2)" in text
    assert "Checks of the quick profile: pass" in text
    assert set(pages) == {"index", *PAGES}
    assert re.findall(r'<li><a href="pages/(.*?)\.html">', page) == list(PAGES)
    assert len(page) < 400_000
    assert "unreadable" in text_of(pages["solo"])  # a published CIDEr
    assert "No experiment of this paper has been run in this profile yet" in text_of(pages["weightlora"])


def test_every_file_is_there(built):
    output, _ = built
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert files == {
        "index.html", "cost.html", "cost.csv", *(f"pages/{name}.html" for name in PAGES),
        *(f"tables/{name}.{kind}" for kind in ("csv", "md", "tex") for name in TABLES), "tables/published.csv",
        *(f"tables/weightlora{name}" for name in (".md", "_selected.csv", "_authors.csv")),
        "tables/scores.csv", "plots/losses.csv", "plots/task_losses.csv", "plots/homotopy.csv", "plots/scores.csv",
        *(f"figures/{name}.{kind}" for kind in ("svg", "png") for name in (
            "forest", "published_measured", "scores", "loss_curves", "homotopy_solo_connection", "selected_map",
            "overlap",
        )),
    }  # fmt: skip


def test_rows_are_in_the_callers_order(built):
    text = text_of(built[1]["solo"]).split("Measured here")[1]
    positions = [text.index(name) for name in ("Full fine-tuning 0.", "Frozen backbone 0.", "LoRA (r=4) 0.")]
    assert positions == sorted(positions)


def test_given_text_is_escaped(built):
    assert "Raw references &lt;b&gt;instead&lt;/b&gt;" in built[1]["runs"]
    assert "&lt;b&gt;" in built[1]["solo"].split('id="examples"')[1]  # predictions hold markup too


def test_every_page_is_well_formed_and_links_only_to_what_is_there(built):
    output, pages = built
    ids = {}
    for name, page in pages.items():
        tags = Tags()
        tags.feed(page)
        assert tags.open == []
        assert len(tags.ids) == len(set(tags.ids))
        ids[f"{name}.html"] = tags
    for name, tags in ids.items():
        folder = output if name == "index.html" else output / "pages"
        for reference in tags.references:
            path, _, anchor = reference.partition("#")
            if reference.startswith("data:"):
                continue
            target = (folder / path).resolve() if path else folder / name
            assert target.is_file(), reference
            assert not anchor or anchor in ids[target.name].ids, reference
        page = pages[name.removesuffix(".html")]
        for url, described in re.findall(r"url\(([^)]+)\)|aria-(?:labelledby|describedby)=\"([^\"]+)\"", page):
            assert (described or url.removeprefix("#")) in tags.ids
        (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page
        assert page.count("<script") == 1
        assert "@import" not in page


@pytest.mark.long
def test_the_same_inputs_give_the_same_bytes(built, quick_runs, tmp_path):
    first, _ = built
    build(
        quick_runs,
        tmp_path / "again",
        experiments=["full", "frozen", "lora", "solo_connection"],
        deviations=["Raw references <b>instead</b> of word-tokenised ones."],
    )
    assert digests(first) == digests(tmp_path / "again")


def test_timings_change_nothing_but_the_cost_page(quick_runs, tmp_path, quickly):
    runs = shutil.copytree(quick_runs, tmp_path / "quick")
    build(runs, tmp_path / "first")
    for path in runs.glob("*/cost/training.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content.values():
            entry.update(seconds=777.7, git_revision="feedface")
        path.write_text(json.dumps(content), encoding="utf-8")
    build(runs, tmp_path / "second")
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert "777.7" in (tmp_path / "second" / "cost.html").read_text(encoding="utf-8")
    assert "777.7" in (tmp_path / "second" / "cost.csv").read_text(encoding="utf-8")
    assert "777.7" not in (tmp_path / "first" / "cost.html").read_text(encoding="utf-8")


def test_a_checkout_without_timings_builds_and_says_so(write_runs, tmp_path, quickly):
    pages = build(write_runs(tmp_path / "runs", items=6, costs=False), tmp_path / "out")
    assert "cost.html" in pages["index"]
    assert "No timings on this machine" in (tmp_path / "out" / "cost.html").read_text(encoding="utf-8")


def test_an_incomplete_and_a_broken_experiment_are_shown_with_the_reason(quick_runs, tmp_path, quickly):
    runs = shutil.copytree(quick_runs, tmp_path / "quick")
    (runs / "lora" / "scores.json").unlink()
    (runs / "full" / "predictions" / "seed-52.jsonl").write_text("{", encoding="utf-8")
    pages = build(runs, tmp_path / "out", experiments=["full", "frozen", "lora", "solo_connection", "later"])
    text = text_of(pages["index"])
    assert re.search(r"lora \(incomplete\): \S*lora/scores.json: not there yet", text)
    assert re.search(r"full \(failed\): \S*full/predictions/seed-52.jsonl, line 1", text)
    assert "later (missing): no results yet" in text
    assert "LoRA (r=4) (incomplete)" in text
    assert "Checks of the quick profile: FAIL" in text


def test_warnings_name_no_folder_of_this_machine(quick_runs, tmp_path, monkeypatch, quickly):
    """The page is an output in version control: a clone elsewhere must build the same bytes."""
    for place in ("here", "there"):
        runs = shutil.copytree(quick_runs, tmp_path / place / "runs" / "quick")
        (runs / "lora" / "scores.json").unlink()
        monkeypatch.chdir(tmp_path / place)
        build_report(profile="quick", runs="runs/quick", output="reports/quick", sections=())
    assert digests(tmp_path / "here" / "reports") == digests(tmp_path / "there" / "reports")
    build_report(profile="quick", runs=tmp_path / "here" / "runs" / "quick", output=tmp_path / "absolute", sections=())
    assert str(tmp_path) not in (tmp_path / "absolute" / "index.html").read_text(encoding="utf-8")


def test_no_runs_at_all_still_give_a_page(tmp_path, quickly):
    text = text_of(build(tmp_path / "runs" / "quick", tmp_path / "out")["index"])
    assert "There are no runs" in text
    assert "make reproduce" in text


@pytest.mark.parametrize("method", ["frozen", "solo_connection"])
def test_a_failed_quick_check_is_shown(write_runs, tmp_path, method, quickly):
    quality = {method: 0.9 if method == "frozen" else 0.05}
    page = build(write_runs(tmp_path / "runs", items=6, quality=quality), tmp_path / "out")["index"]
    assert "Checks of the quick profile: FAIL" in text_of(page)
    assert page.index("FAIL") < page.index('id="results"')


def test_other_profiles_have_no_quick_checks_and_their_own_text(write_runs, tmp_path, quickly):
    runs = write_runs(
        tmp_path / "runs", profile="cpu", experiments=["frozen", "lora", "solo_connection"], seeds=[18], items=6,
        label="E2E NLG, official release v1.0.0", backbone="smollm2-135m",
    )  # fmt: skip
    pages = build(runs, tmp_path / "out")
    text = text_of(pages["index"])
    assert "Checks of the quick profile" not in text
    assert "SmolLM2-135M, not GPT-2" in text
    assert "are tested where the runs allow it" in text
    assert "every absolute figure stays not comparable" in text
    assert "E2E NLG, official release v1.0.0" in text
    assert "±" not in text.split("Measured here: cpu")[1].split("Files and sources")[0]
    assert "embedded synthetic corpus" not in text


def test_the_paper_profile_is_set_against_published_cells(paper_runs, tmp_path, quickly):
    pages = build(paper_runs, tmp_path / "out")
    assert "Against published cells" in text_of(pages["solo"])
    assert "not comparable" not in text_of(pages["solo"])
    changed = "The tolerances have changed since these runs were made: .*solo-k2"  # none has their digest
    assert re.search(changed, text_of(pages["index"]))
    cells = pd.read_csv(tmp_path / "out" / "tables" / "cells.csv")
    assert set(cells.Verdict) <= {"within tolerance", "direction only", "not reproduced"}
    assert cells.Run.str.startswith("Solo Connection (r=120, k=2)").any()


def test_figures_of_an_earlier_report_do_not_stay(quick_runs, tmp_path, quickly):
    stale = tmp_path / "out" / "figures" / "homotopy_gone.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("x", encoding="utf-8")
    build(quick_runs, tmp_path / "out")
    assert not stale.exists()


def test_a_folder_of_another_profile_is_refused(quick_runs, tmp_path):
    with pytest.raises(DataError, match="holds profile 'quick', not 'cpu'"):
        build_report(profile="cpu", runs=quick_runs, output=tmp_path)


def test_learning_rates_that_were_tried_are_shown(quick_runs, tmp_path, quickly):
    tried = [{"learning_rate": 0.002, "held_out_loss": 1.25}, {"learning_rate": 0.5, "held_out_loss": None}]
    searches = tmp_path / "searches" / "quick"
    searches.mkdir(parents=True)
    (searches / "lora.json").write_text(json.dumps({"tried": tried, "best": 0.002}), encoding="utf-8")
    (searches / "full.json").write_text("{", encoding="utf-8")
    pages = build(quick_runs, tmp_path / "out", searches=searches)
    assert "0.002: 1.2500, 0.5: diverged" in text_of(pages["runs"])
    assert "full.json: not valid JSON" in text_of(pages["index"])


def test_plot_data_hold_every_observation(built, quick_runs):
    output, _ = built
    losses = pd.read_csv(output / "plots" / "losses.csv")
    curve = pd.read_csv(quick_runs / "lora" / "training" / "seed-52" / "curves.csv")
    one = losses[(losses.experiment == "lora") & (losses.seed == 52)]
    assert one["loss"].dropna().tolist() == pytest.approx(curve["loss"].dropna().tolist())
    homotopy = pd.read_csv(output / "plots" / "homotopy.csv")
    assert set(homotopy.quantity) == {"homotopy_parameter", "homotopy_vector_norm"}
    assert set(homotopy.connection) == {"2->4", "4->6", "6->8"}


def test_the_command_line_builds_a_page_and_reports_errors(quick_runs, tmp_path, quickly, monkeypatch):
    monkeypatch.setattr("analysis.show.report.detectable", lambda _: [])
    monkeypatch.setattr("analysis.show.report.further_sections", lambda _: [])
    app = typer.Typer()
    app.command()(main)
    command = ["--profile", "quick", "--runs", str(quick_runs)]
    done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "out" / "index.html")
    wrong = [sys.executable, "-m", "analysis.show.report", *command, "--output", str(tmp_path), "--profile", "cpu"]
    ended = subprocess.run(wrong, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")


def test_the_verdict_table_says_of_each_claim_what_and_why(built):
    _, pages = built
    page = pages["index"]
    first = page[page.index('<section id="verdicts">') : page.index('<section id="about">')]
    assert first.count('<span class="verdict not_tested">not tested</span>') == 8
    text = text_of(first)
    assert "quick profile: 8 not tested. Toy models on a synthetic corpus" in text
    rows = [text_of(row) for row in re.findall(r'<tr role="row"><th scope="row".*?</tr>', first, flags=re.DOTALL)]
    assert len(rows) == 8
    assert re.search(r"Solo Connection 1 .* The paper \+0\.0025 BLEU .* BLEU, 3 seeds .* Why no run tests it", rows[0])
    assert all(row.count("seed") <= 1 for row in rows)
    for target in re.findall(r'href="pages/claims.html#(claim-[^"]+)"', first):
        assert f'<article class="claim" id="{target}">' in pages["claims"]


def test_the_rule_is_stated_and_untested_comparisons_are_one_line(built):
    output, pages = built
    rule = text_of(pages["reading"].split('<section id="rule">')[1])
    for part in (
        "the larger of two: the paired t-test over the seeds' differences",
        "decided by its primary comparison",
        "cannot tell: the noise",
        "different types of processor is left out",
        "with 80 % probability",
    ):
        assert part in html.unescape(rule)
    (compared,) = pd.read_csv(output / "tables" / "comparisons_solo.csv").to_dict("records")
    assert (compared["Seeds"], compared["Adjusted p"], compared["Verdict"]) == (3, "not tested", "not tested")
    assert '<details class="fold"><summary>1 comparison, not tested.</summary>' in pages["claims"]
    assert f"{compared['Could detect']:.3f}" in text_of(pages["claims"])


def test_every_table_has_one_link_to_its_files_and_records(built):
    output, pages = built
    tables = re.findall(r'<table[^>]* id="table-([^"]+)"', "".join(pages.values()))
    assert set(tables) == set(TABLES) - {"comparisons_solo"}
    for name in TABLES:
        assert f'<dt id="of-{name}">' in pages["sources"]
        text = (output / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        assert r"\toprule" in text
        assert text.count(r"\begin{tabular}") == 1
    assert pages["solo"].count("Files and sources") == 2
    assert pages["sources"].count("python -m pipelines.report --params params.yaml") == 1
    assert pages["sources"].count("<code>runs/quick/lora/training/seed-{18,52,1917}/record.json</code>") <= 3
    assert "<code>runs/quick/frozen/training/seed-18/record.json</code>" in pages["sources"]


def test_standings_show_on_hover_and_in_print(built):
    page = built[1]["solo"]
    assert re.search(r'<abbr title="unreadable: a digit could not be read">unreadable<sup>x</sup></abbr>', page)
    assert "Standing of a published figure: " in text_of(page)


def test_the_corpus_stands_with_its_licence(built):
    assert "Apache-2.0" in text_of(built[1]["runs"]).split("Corpora and their licences")[1]


def test_a_section_is_a_page_with_its_files(quick_runs, tmp_path, quickly):
    block = Block(
        "Counted at full scale", ("What", "Count"), (("LoRA", Cell("0.35M", standing="paper")), ("Solo", "1"))
    )
    section = Section("full-scale", "At full scale", ("Nothing was trained.",), (block,), about="all counts")
    pages = build(quick_runs, tmp_path / "out", sections=[section])
    assert '<a href="pages/full-scale.html">At full scale</a>: all counts' in pages["index"]
    assert "0.35M<sup>p</sup>" in pages["full-scale"]
    assert '<a href="../pages/sources.html#of-full-scale_1">' in pages["full-scale"]
    assert (tmp_path / "out" / "tables" / "full-scale_1.tex").is_file()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: re.sub(r"\bBLEU(?=\"?:)", "BLUE", text, count=1), r"lora_e2e\.\w+.*BLUE"),
        (lambda text: text[: len(text) // 2], r"lora_e2e\.\w+"),
    ],
)
def test_broken_published_figures_name_the_file_and_leave_the_old_report(
    quick_runs, tmp_path, project_root, quickly, edit, message
):
    output = tmp_path / "out"
    build(quick_runs, output)
    before = digests(output)
    published = shutil.copytree(project_root / "paper_results", tmp_path / "paper_results")
    path = next(path for path in published.iterdir() if path.stem == "lora_e2e")
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        build(quick_runs, output, published=published)
    assert digests(output) == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["out", "paper_results"]


def test_a_crash_half_way_leaves_the_old_report(quick_runs, tmp_path, quickly, monkeypatch):
    output = tmp_path / "out"
    build(quick_runs, output)
    before = digests(output)
    monkeypatch.setattr("analysis.show.report.write_plots", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(quick_runs, output)
    assert digests(output) == before


PARTS = ("tables", "page.html")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "report"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "old.csv").write_text("old")
    (folder / "page.html").write_text("old page")
    (folder / "kept.txt").write_text("not ours")
    return folder


def write_part(folder, text="new"):
    (folder / "tables").mkdir()
    (folder / "tables" / "new.csv").write_text(text)
    (folder / "page.html").write_text(text)


def test_parts_are_replaced_together_and_the_rest_stays(old):
    with replaced_parts(old, PARTS) as folder:
        write_part(folder)
        assert contents(old)["page.html"] == "old page"
    assert contents(old) == {"tables/new.csv": "new", "page.html": "new", "kept.txt": "not ours"}
    assert [path.name for path in old.parent.iterdir()] == ["report"]


def test_a_failure_while_writing_changes_nothing(old):
    before = contents(old)

    def fail():
        with replaced_parts(old, PARTS) as folder:
            write_part(folder)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert contents(old) == before
    assert [path.name for path in old.parent.iterdir()] == ["report"]


def test_a_failure_while_moving_puts_everything_back(old, monkeypatch):
    before = contents(old)
    rename = type(old).rename

    def failing(path, target):
        if path.parent.name == "fresh" and path.name == "page.html":
            raise OSError("disk full")
        return rename(path, target)

    monkeypatch.setattr(type(old), "rename", failing)
    with pytest.raises(OSError, match="disk full"), replaced_parts(old, PARTS) as folder:
        write_part(folder)
    assert contents(old) == before


def test_a_folder_that_is_not_there_is_made(tmp_path):
    with replaced_parts(tmp_path / "a" / "report", PARTS) as folder:
        write_part(folder)
    assert contents(tmp_path / "a" / "report") == {"tables/new.csv": "new", "page.html": "new"}


@pytest.fixture
def searches(tasks_module, tmp_path):
    folder = tmp_path / "searches" / "cpu"
    tasks_module.write_search(folder, "glue-lora", method="lora", task="cola", backbone="minilm-l6")
    return folder


def test_each_paper_has_its_own_page(write_runs, write_task_runs, tmp_path, quickly):
    runs = write_runs(tmp_path / "runs", items=6, seeds=[18])
    write_task_runs(
        tmp_path / "runs", profile="quick", backbone="microworld-deberta", tasks={"microworld_sentiment": "sst2"},
        methods=("frozen", "lora", "weight_lora-k3", "random_lora-k3"), items=30,
    )  # fmt: skip
    pages = build(runs, tmp_path / "out")
    assert "microworld_sentiment" not in text_of(pages["solo"])
    text = text_of(pages["weightlora"])
    assert "quick profile, small DeBERTa" in text
    assert "WeightLoRA (r=8, K=3)" in text
    assert "quick profile never tests a claim" in text_of(pages["claims"])
    assert 'id="table-glue_microworld_deberta"' in pages["weightlora"]
    assert 'id="table-tasks"' in pages["index"]
    assert (tmp_path / "out" / "tables" / "glue_microworld_deberta.tex").is_file()
    losses = (tmp_path / "out" / "plots" / "losses.csv").read_text(encoding="utf-8")
    assert "microworld_sentiment" not in losses
    assert "microworld_sentiment" in (tmp_path / "out" / "plots" / "task_losses.csv").read_text(encoding="utf-8")


@pytest.mark.long
def test_task_runs_alone_have_every_page(task_runs, searches, tasks_module, tmp_path, monkeypatch, without_png):
    """With what the design can detect, the searches and the memory measurements."""
    monkeypatch.setattr("analysis.judge.study.RESAMPLES", 100)
    monkeypatch.setattr("analysis.show.report.further_sections", lambda _: [])
    measurements = tmp_path / "measurements" / "cpu"
    tasks_module.write_memory(measurements)
    output = tmp_path / "out"
    pages = build(task_runs, output, searches=searches, measurements=measurements, sections=None)
    assert "searched on CoLA, the best of 3" in text_of(pages["weightlora"])
    assert "0.001: 0.5000" in text_of(pages["runs"])
    assert "did not learn" in text_of(pages["weightlora"])
    assert "CoLA on MiniLM-L6, K=3: WeightLoRA minus random" in text_of(pages["claims"])
    assert "phase-2 peak 412 MB" in text_of(pages["claims"])
    assert '<a href="pages/design.html">What this design can detect</a>' in pages["index"]
    drawn = [name for page in pages.values() for name in re.findall(r'<figure id="figure-([^"]+)">', page)]
    assert sorted(drawn) == sorted({path.stem for path in (output / "figures").iterdir()})
    assert {"forest", "scores", "memory_adapters", "detectable"} <= set(drawn)
    assert (output / "plots" / "detectable.csv").is_file()


def test_experiments_that_have_not_run_stand_in_their_tables(task_runs, tmp_path, quickly):
    plan = {
        "lora": Planned("smollm2-135m", "e2e-part", "lora", corpus="e2e"),
        "my-cola-lora": Planned("minilm-l6", "cola", "lora", "classification", {"rank": 8}, "cola"),
        "squad-lora": Planned("minilm-l6", "squad", "lora", "question_answering", {"rank": 8}, "squad_v1"),
    }
    pages = build(task_runs, tmp_path / "out", experiments=plan)
    assert "lora (missing)" in text_of(pages["index"])
    assert "SQuAD" not in text_of(pages["solo"])
    assert "SQuAD v1.1 †" in text_of(pages["weightlora"])
    assert "not run" in text_of(pages["weightlora"])


@pytest.mark.parametrize("profile", ["quick", "cpu", "paper"])
def test_every_profile_builds_without_any_runs(tmp_path, quickly, profile):
    pages = build(tmp_path / "runs" / profile, tmp_path / "out")
    assert f"{profile} profile" in text_of(pages["index"])
    assert "The WeightLoRA authors' own logs" in html.unescape(text_of(pages["authors"]))


def test_broken_searches_and_measurements_are_named_without_this_machines_folders(task_runs, tmp_path, quickly):
    searches, measurements = tmp_path / "searches" / "cpu", tmp_path / "measurements" / "cpu"
    for folder, name in ((searches, "glue-lora.json"), (measurements, "memory.json")):
        folder.mkdir(parents=True)
        (folder / name).write_text("{", encoding="utf-8")
    page = build(task_runs, tmp_path / "out", searches=searches, measurements=measurements)["index"]
    assert "searches/cpu/glue-lora.json: not valid JSON" in text_of(page)
    assert "measurements/cpu/memory.json: not valid JSON" in text_of(page)
    assert str(tmp_path) not in page


def test_folders_of_another_profile_are_refused(task_runs, tmp_path):
    with pytest.raises(DataError, match="holds profile 'quick', not 'cpu'"):
        build_report(profile="cpu", runs=task_runs, output=tmp_path, searches=tmp_path / "quick")


def test_claims_are_sentences(task_runs):
    from analysis.load.runs import load_profile

    lines = verdict_list(load_bench("cpu", load_profile(task_runs)).of_paper("weightlora")).splitlines()
    assert lines[0].startswith("- **Claim 1: ")
    assert sum(line.startswith("- **Claim") for line in lines) == 4
    assert any(line.startswith("  - CoLA on MiniLM-L6") for line in lines)
