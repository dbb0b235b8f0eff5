"""Coverage-guided fuzzing of the parsers: python tests/fuzz.py TARGET [libFuzzer options]; `make fuzz` runs all.

A parser may return or raise a ReplicationError in one piece; anything else is a fault, and libFuzzer keeps the input.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["replication", "analysis", "pipelines"]):
    from analysis.load.judgement import Judgement
    from analysis.load.paper_files import validated
    from pipelines.shared.settings import load_settings
    from replication.backbones.package_archives import extract_member
    from replication.commands.count import parse_setting
    from replication.corpora.e2e import read_archive
    from replication.corpora.schema import parse_linearised, parse_mr, read_csv
    from replication.errors import ReplicationError
    from replication.fileio import read_json, read_jsonl, sha256_bytes
    from replication.metrics.layouts import read
    from replication.predictions import read_predictions

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz."))


def _file(data, name):
    path = FOLDER / name
    path.write_bytes(data)
    return path


def _text(data):
    return data.decode("utf-8", "replace")


TARGETS = {
    "archive": lambda data: extract_member(_file(data, "a.zip"), "a/b", FOLDER),
    "csv": read_csv,
    "e2e": lambda data: read_archive(_file(data, "a.zip"), sha256_bytes(data)),
    "json": lambda data: read_json(_file(data, "a.json")),
    "jsonl": lambda data: read_jsonl(_file(data, "a.jsonl")),
    "layouts": lambda data: read(_file(data, "scored"), {"prediction", "id"}, bare=("id", "prediction")),
    "meaning": lambda data: parse_mr(_text(data)),
    "linearised": lambda data: parse_linearised(_text(data)),
    "paper": lambda data: validated(Judgement, _file(data, "a.yaml")),
    "predictions": lambda data: read_predictions(_file(data, "a.jsonl")),
    "setting": lambda data: parse_setting("a=" + _text(data)),
    "settings": lambda data: load_settings(_file(data, "params.yaml")),
}


def main():
    """One target; `--list` names them."""
    if sys.argv[1:2] == ["--list"]:
        print("\n".join(TARGETS))
        return
    target = TARGETS[sys.argv.pop(1)]

    def once(data):
        with contextlib.suppress(ReplicationError):
            target(data)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


main()
