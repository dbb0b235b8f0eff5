"""Reading predictions and labels of GLUE, SQuAD and multiple choice from the files that people have.

GLUE: a submission (`index<TAB>prediction`, classes by name or number), one value a line, or rows with "prediction";
labels from the task's own TSV files, one a line, or rows with "label". Rows are matched by "index" or "id"; where only
the predictions have it, by the number of the row from 0, as GLUE's indices are.

SQuAD: the official dictionary {question id: answer} or the standard rows {"id", "prediction_text"}; the official JSON
of the data set, or rows {"id", "answers"}.

Predictions of a run, with decoding.json next to them, hold their labels and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from replication.errors import DataError
from replication.fileio import listed
from replication.metrics.guard import CLASSES
from replication.metrics.layouts import STDIN, Content, name_of, read
from replication.predictions import full_rows

Rows = list[dict[str, Any]]
_KEYS = ("index", "idx", "id")
_LABELS = ("label", "gold_label", "quality", "is_duplicate", "score")
_COLA = ("source", "label", "mark", "sentence")


# --- classes and numbers ------------------------------------------------------------


def labelled(predictions: Path, labels: Path | None, task: str | None) -> Rows:
    """Rows {"id", "prediction", "label", ...}; `task` is a GLUE task, None for the classes of any task as numbers.

    Rows of multiple choice may have "log_likelihoods" instead of a prediction. DataError names the row whose value is
    no class or number, that is missing, that has no partner, or whose id an earlier one has.
    """
    said = _values(predictions, ("prediction",), task, bare=("index", "prediction"), instead="log_likelihoods")
    if labels is None:
        if not all("label" in row for row in said):
            raise DataError(f'{name_of(predictions)}: no "label" in it; name their file with --references')
        return [{**row, "label": _value(task, row["label"], predictions, row["id"])} for row in said]
    wanted = _values(labels, _LABELS, task, bare=_COLA if task == "cola" else ("index", "label"), field="label")
    by_key = all("key" in row for row in said)
    if not by_key and len(said) != len(wanted):
        raise DataError(
            f"{name_of(predictions)} has {len(said)} predictions, {name_of(labels)} {len(wanted)} labels; "
            "every example needs one prediction"
        )
    keys = [row.get("key", str(number)) for number, row in enumerate(wanted)]
    truth = dict(zip(keys, wanted, strict=True))
    given = dict(zip([row["key"] for row in said] if by_key else keys, said, strict=True))
    _check_keys(given, truth, predictions, labels)
    return [_merged(truth[key], given[key], key) for key in truth]


def _merged(truth: Mapping[str, Any], given: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {**truth, **{name: value for name, value in given.items() if name != "label"}, "id": key}


def _check_once(keys: Sequence[Any], at: Callable[[int], str], what: str) -> None:
    seen: set[str] = set()
    for index, key in enumerate(map(str, keys)):
        if key in seen:
            raise DataError(f"{at(index)}: a second {what} for {key!r}; keep one")
        seen.add(key)


def _check_keys(given: Mapping[str, Any], truth: Mapping[str, Any], here: Path, there: Path) -> None:
    if missing := [key for key in truth if key not in given]:
        raise DataError(
            f"{name_of(here)}: no prediction for {missing[0]!r} of {name_of(there)} ({len(missing)} missing)"
        )
    if extra := [key for key in given if key not in truth]:
        raise DataError(f"{name_of(there)}: no {extra[0]!r}, which {name_of(here)} predicts ({len(extra)} in all)")


def _values(
    path: Path,
    names: Sequence[str],
    task: str | None,
    *,
    bare: Sequence[str],
    field: str = "prediction",
    instead: str = "",
) -> Rows:
    """Rows with `field` as a class or number, "key" where the file has one, and "id" for messages.

    `instead`: where no task is given, rows may have this field alone.
    """
    content = _content(path, {*names, *_KEYS}, bare)
    if not content.rows:
        texts = [text for text in content.texts if text.strip()]
        return [{"id": number, field: _value(task, text, path, number)} for number, text in enumerate(texts)]
    name = content.first_of(names)
    if name is None and task is None:
        name = content.first_of((instead,))
    if name is None:
        raise DataError(f"{content.at(0)}: none of the fields {', '.join(names)}; it has {listed(content.rows[0])}")
    key = content.first_of(_KEYS)
    keys = content.column(key, lambda value: isinstance(value, str | int), "not text") if key else []
    matched = bool(keys) and not (task == "qqp" and key == "id")
    if matched:
        _check_once(keys, content.at, field)
    rows: Rows = []
    for number, row in enumerate(content.rows):
        if name not in row:
            raise DataError(f'{content.at(number)}: no field "{name}"')
        found = {**row, "id": keys[number] if keys else number}
        if name != instead:
            found[field] = _value(task, row[name], path, found["id"])
        rows.append({**found, "key": str(keys[number])} if matched else found)
    return rows


def _value(task: str | None, value: Any, path: Path, where: Any) -> Any:
    """A class name or written number as a number; everything else is left to the guard."""
    if not isinstance(value, str):
        return value
    text, names = value.strip(), CLASSES.get((task or "").split("_")[0], ())
    if text in names:
        return names.index(text)
    try:
        return float(text) if task == "stsb" else int(text)
    except ValueError:
        valid = "a number" if task == "stsb" else f"a class: {', '.join(names)}, or its number" if names else "a number"
        raise DataError(f"{name_of(path)}, row {where!r}: {value!r} is not {valid}") from None


def _content(path: Path, headers: set[str], bare: Sequence[str]) -> Content:
    if path != STDIN and (path.parent / "decoding.json").is_file():
        rows = full_rows(path)
        return Content(str(path), "JSON lines", rows, list(range(1, len(rows) + 1)))
    return read(path, headers, bare=bare, quoted=path.suffix.lower() == ".csv")


# --- answers ------------------------------------------------------------------------


def answered(predictions: Path, references: Path | None, no_answer: Path | None) -> tuple[Rows, int]:
    """Rows {"id", "prediction", "answers", "no_answer_score" if given}, and the version of SQuAD, 1 or 2."""
    said = _predicted_answers(predictions)
    if references is None:
        if not all("answers" in row for row in said.values()):
            raise DataError(f'{name_of(predictions)}: no "answers" in it; name the data set with --references')
        gold = {key: _answers(row["answers"], f"{name_of(predictions)}, {key!r}") for key, row in said.items()}
        version = 1 if all(any(texts) for texts in gold.values()) else 2
    else:
        gold, version = _gold_answers(references)
        _check_keys(said, gold, predictions, references)
    nulls = _no_answer_scores(no_answer, gold) if no_answer else {}
    rows = [{**said[key], "id": key, "answers": gold[key]} for key in gold]
    return [{**row, "no_answer_score": nulls[row["id"]]} if nulls else row for row in rows], version


def plain_answers(predictions: Sequence[Any], references: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    """Texts and lists of gold answers of the standard dictionaries, {"id", "prediction_text"} and {"id", "answers"}.

    DataError for an id without a prediction, with two, or without references.
    """
    said, gold = ({entry.get("id"): entry for entry in entries} for entries in (predictions, references))
    if said.keys() != gold.keys() or len(said) != len(predictions) or len(gold) != len(references):
        odd = next(iter(said.keys() ^ gold.keys()), "an id that occurs twice")
        raise DataError(f"each id needs one prediction and one entry of references; see {odd!r}")
    texts = [said[key].get("prediction_text") for key in gold]
    return texts, [_answers(entry.get("answers"), f"references, {key!r}") for key, entry in gold.items()]


def _predicted_answers(path: Path) -> dict[str, dict[str, Any]]:
    content = _content(path, {"id", "prediction_text", "prediction"}, ("id", "prediction"))
    row_fields = {"prediction", "prediction_text"}
    if content.layout == "JSON object" and not row_fields & content.value.keys():
        for key, text in content.value.items():
            if not isinstance(text, str):
                raise DataError(f"{content.where}, {key!r}: {type(text).__name__}, expected the answer, a text")
        return {key: {"prediction": text} for key, text in content.value.items()}
    if not content.rows:
        raise DataError(f'{content.where}: plain text; expected {{"id": "answer", ...}} or rows with "id"')
    name = content.first_of(("prediction", "prediction_text")) or "prediction"
    texts = content.text_column(name)
    found: dict[str, dict[str, Any]] = {}
    _check_once(content.column("id", lambda value: True, ""), content.at, "prediction")
    for row, text in zip(content.rows, texts, strict=True):
        kept: dict[str, Any] = {field: row[field] for field in ("answers", "span", "no_answer_score") if field in row}
        if "no_answer_probability" in row:
            kept["no_answer_score"] = row["no_answer_probability"]
        found[str(row["id"])] = {"prediction": text, **kept}
    return found


def _gold_answers(path: Path) -> tuple[dict[str, list[str]], int]:
    content = read(path, {"id", "answers"})
    if content.layout == "JSON object" and "data" in content.value:
        return _official(content)
    gold: dict[str, list[str]] = {}
    for index, row in enumerate(content.rows):
        if "id" not in row or "answers" not in row:
            raise DataError(f'{content.at(index)}: expected the fields "id" and "answers"; it has {", ".join(row)}')
        if str(row["id"]) in gold:
            raise DataError(f"{content.at(index)}: a second entry for {row['id']!r}; keep one")
        gold[str(row["id"])] = _answers(row["answers"], content.at(index))
    if not gold:
        raise DataError(f"{content.where}: expected the data set's JSON, or rows with id and answers")
    return gold, 1 if all(any(texts) for texts in gold.values()) else 2


def _official(content: Content) -> tuple[dict[str, list[str]], int]:
    gold: dict[str, list[str]] = {}
    version = 2 if str(content.value.get("version", "")).lstrip("v").startswith("2") else 1
    try:
        for article in content.value["data"]:
            for question in (question for paragraph in article["paragraphs"] for question in paragraph["qas"]):
                if question["id"] in gold:
                    raise DataError(f"{content.where}: a second question {question['id']!r}; keep one")
                gold[question["id"]] = _answers(question["answers"], f"{content.where}, question {question['id']!r}")
                version = 2 if "is_impossible" in question else version
    except (KeyError, TypeError) as error:
        raise DataError(f"{content.where}: not the JSON of SQuAD: {error!r}; expected data, paragraphs, qas") from None
    return gold, version


def _answers(value: Any, where: str) -> list[str]:
    """The texts of ["..."], [{"text": ...}] or {"text": [...]}."""
    listed = value.get("text") if isinstance(value, Mapping) else value
    if not isinstance(listed, list):
        raise DataError(f'{where}: "answers" is {type(value).__name__}, expected a list of texts')
    texts: list[Any] = [entry.get("text") if isinstance(entry, Mapping) else entry for entry in listed]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f'{where}: "answers" holds something else than texts')
    return texts


def _no_answer_scores(path: Path, gold: Mapping[str, Any]) -> dict[str, float]:
    value = read(path, ()).value
    if not isinstance(value, dict):
        raise DataError(f"{name_of(path)}: expected {{question id: probability of no answer}}")
    if missing := [key for key in gold if key not in value]:
        raise DataError(f"{name_of(path)}: no probability for {missing[0]!r} ({len(missing)} missing)")
    odd = next((key for key in gold if not isinstance(value[key], int | float) or not 0 <= value[key] <= 1), None)
    if odd is not None:
        raise DataError(f"{name_of(path)}, {odd!r}: {value[odd]!r} is no probability from 0 to 1")
    return {key: float(value[key]) for key in gold}
