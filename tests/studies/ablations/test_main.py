import json

import pytest

import studies.ablations.__main__ as program
from analysis.show.ablations import DIRECTORY
from replication.errors import ConfigError, DataError
from replication.fileio import sha256_file
from studies.ablations.__main__ import ABLATIONS, chosen, main
from studies.ablations.bench import Findings

PARAMS = "params.yaml"


@pytest.fixture
def place(tmp_path, monkeypatch, project_root):
    """An empty folder with the quick profile's settings and the authors' files."""
    (tmp_path / PARAMS).write_bytes((project_root / PARAMS).read_bytes())
    (tmp_path / "paper_results").symlink_to(project_root / "paper_results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_complete_result_is_not_measured_again(place, monkeypatch, capsys):
    calls = []
    plan = ABLATIONS["memory_constant"]

    def counting(given, bench):
        calls.append(given.name)
        return Findings(("a", "b"), [("x", 1 / 3)], shows="that it ran.")

    changed = program.AblationPlan(**{**vars(plan), "measure": counting})
    monkeypatch.setitem(ABLATIONS, "memory_constant", changed)
    main(only=["memory_constant"])
    before = (place / DIRECTORY / "memory_constant.json").read_bytes()
    assert json.loads(before)["rows"] == [["x", 0.333333]]
    main(only=["memory_constant"])
    assert calls == ["memory_constant"]
    main(only=["memory_constant"], force=True)
    assert len(calls) == 2
    assert (place / DIRECTORY / "memory_constant.json").read_bytes() == before
    other = program.AblationPlan(**{**vars(changed), "settings": {"version": 2}})
    monkeypatch.setitem(ABLATIONS, "memory_constant", other)
    main(only=["memory_constant"])
    assert len(calls) == 3
    (place / DIRECTORY / "memory_constant.json").write_text("{}", encoding="utf-8")
    main(only=["memory_constant"])
    assert len(calls) == 4
    capsys.readouterr()
    main(only=["memory_constant"], as_json=True)
    assert json.loads(capsys.readouterr().out)["memory_constant"]["status"] == "complete"


def test_a_dry_run_writes_nothing(place, capsys):
    main(dry_run=True)
    said = capsys.readouterr().out
    assert all(f"{name}: would be measured" in said for name in ABLATIONS)
    assert not (place / DIRECTORY).exists()


def test_unknown_names_other_profiles_and_missing_files_are_refused(place):
    with pytest.raises(ConfigError, match="valid names: overlap"):
        chosen(["no_such"])
    text = (place / PARAMS).read_text(encoding="utf-8")
    (place / "cpu.yaml").write_text(text.replace("profile: quick", "profile: cpu"), encoding="utf-8")
    with pytest.raises(ConfigError, match="quick profile"):
        main(params=place / "cpu.yaml")
    (place / "paper_results").unlink()
    with pytest.raises(DataError, match="no such file"):
        main(only=["memory_constant"])


def test_every_plan_is_whole():
    for name, plan in ABLATIONS.items():
        assert name == plan.name
        assert plan.paper in ("solo_connection", "weight_lora")
        assert plan.does_not_show
        assert "version" in plan.settings
        assert "line not at hand" in plan.source
        assert not plan.seeds or len(plan.seeds) >= 3
        json.dumps(dict(plan.settings))


def test_the_committed_results_are_of_these_plans(project_root):
    for path in (project_root / DIRECTORY).glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        plan = ABLATIONS[result["name"]]
        settings = {name: value for name, value in result["settings"].items() if name != "profile_training"}
        assert settings == json.loads(json.dumps(dict(plan.settings))), path
        assert (result["title"], result["fault"]) == (plan.title, plan.fault)


def test_what_was_made_from_committed_files_is_made_from_these(project_root, committed_results):
    """Those that train name weights and prepared files too, which a clone does not have."""
    read = 0
    for path in (project_root / DIRECTORY).glob("*.json"):
        for name, digest in json.loads(path.read_text(encoding="utf-8"))["inputs"].items():
            if name.startswith(("paper_results/", "runs/")):
                read += 1
                assert sha256_file(project_root / name) == digest, f"{path.name}: {name} has changed; make ablations"
    assert read == 10
