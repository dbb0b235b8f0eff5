"""Coverage-guided fuzzing of the parsers: python tests/fuzz.py TARGET [libFuzzer options]; `make fuzz` runs all.

A parser may return or raise a ReplicationError of one line; anything else is a fault, and libFuzzer keeps the input.
Each target starts from valid inputs, so that more than the first refusal is reached.
"""

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["replication", "analysis", "pipelines"]):
    from analysis.load.judgement import Judgement
    from analysis.load.paper_files import validated
    from analysis.load.runs import read_curves, read_metrics
    from pipelines.shared.settings import load_settings
    from replication.backbones.package_archives import extract_member
    from replication.commands.count import parse_setting
    from replication.corpora.e2e import read_archive
    from replication.corpora.schema import parse_linearised, parse_mr, read_csv
    from replication.corpora.summaries import parse_cnn_dailymail
    from replication.errors import ReplicationError
    from replication.fileio import read_json, read_jsonl, sha256_bytes
    from replication.methods.shared.saving import check_saved, read_description, read_tensors
    from replication.metrics.layouts import read
    from replication.predictions import read_predictions
    from replication.records import read_record

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz."))


def _file(data, name):
    path = FOLDER / name
    path.write_bytes(data)
    return path


def _text(data):
    return data.decode("utf-8", "replace")


def _adapter(data):
    """Description and tensors, which four zero bytes separate."""
    description, _, tensors = data.partition(bytes(4))
    _file(tensors, "adapter_model.safetensors")
    check_saved(_file(description, "adapter_config.json").parent)
    read_tensors(FOLDER / "adapter_model.safetensors", read_description(FOLDER / "adapter_config.json"))


TARGETS = {
    "adapter": _adapter,
    "archive": lambda data: extract_member(_file(data, "a.zip"), "a/b", FOLDER),
    "csv": read_csv,
    "curves": lambda data: read_curves(_file(data, "curves.csv")),
    "e2e": lambda data: read_archive(_file(data, "a.zip"), sha256_bytes(data)),
    "json": lambda data: read_json(_file(data, "a.json")),
    "jsonl": lambda data: read_jsonl(_file(data, "a.jsonl")),
    "layouts": lambda data: read(_file(data, "scored"), {"prediction", "id"}, bare=("id", "prediction")),
    "meaning": lambda data: parse_mr(_text(data)),
    "linearised": lambda data: parse_linearised(_text(data)),
    "paper": lambda data: validated(Judgement, _file(data, "a.yaml")),
    "predictions": lambda data: read_predictions(_file(data, "a.jsonl")),
    "record": lambda data: read_record(_file(data, "record.json")),
    "metrics": lambda data: read_metrics(_file(data, "metrics.json")),
    "setting": lambda data: parse_setting("a=" + " ".join(_text(data).splitlines())),
    "settings": lambda data: load_settings(_file(data, "params.yaml")),
    "summaries": lambda data: list(parse_cnn_dailymail("summaries.csv", _text(data))),
}


def _zips():
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/b", b"{}" * 9)
            archive.writestr("trainset.csv", b"mr,ref\nname[A],A\n")
        yield buffer.getvalue()


def _committed(pattern):
    return [next(ROOT.glob(pattern)).read_bytes()]


def _seeds(target):
    """Valid inputs to start from; none for what is a line of text."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    tensors = len(header).to_bytes(8, "little") + header + bytes(4)
    row = b'{"mr": "name[A]", "context": "name : A", "prediction": "A \\ud83d\\ude00", "references": ["A"]}\n'
    seeds = {
        "adapter": lambda: [b'{"format_version": 1, "method": "lora", "config": {}, "base": {}}' + bytes(4) + tensors],
        "archive": _zips,
        "csv": lambda: [b'mr,ref\n"name[A], eatType[pub]","A, pub"\n'],
        "curves": lambda: _committed("runs/quick/*/training/seed-*/curves.csv"),
        "e2e": _zips,
        "json": lambda: [row],
        "jsonl": lambda: [row * 2],
        "layouts": lambda: [b"id\tprediction\n1\tA\n", b'id,prediction\n1,"A, b"\n', row],
        "metrics": lambda: _committed("runs/quick/*/scores.json"),
        "paper": lambda: _committed("paper_results/judgement.yaml"),
        "predictions": lambda: [row],
        "record": lambda: _committed("runs/quick/*/training/seed-*/record.json"),
        "settings": lambda: _committed("params.yaml"),
        "summaries": lambda: [b'article,highlights,id\n"a\nb",c,d\n'],
    }
    return list(seeds.get(target, list)())


def main():
    """One target; `--list` names them."""
    if sys.argv[1:2] == ["--list"]:
        print("\n".join(TARGETS))
        return
    name = sys.argv.pop(1)
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(_seeds(name)):
        (corpus / str(number)).write_bytes(seed)

    def once(data):
        try:
            TARGETS[name](data)
        except ReplicationError as error:
            if len(str(error).splitlines()) > 1:
                raise AssertionError("not one line") from error

    atheris.Setup([*sys.argv, str(corpus)], once)
    atheris.Fuzz()


main()
