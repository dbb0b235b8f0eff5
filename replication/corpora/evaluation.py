"""The evaluation protocol in one line beside a score: from the corpus card and the options of the predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SQUAD = {
    "squad_v1": "SQuAD v1.1's script: each answer by its best gold answer",
    "squad_v2": "SQuAD v2.0's script",
}
ROUGE_L = {
    "rouge": "ROUGE-L of whole texts leads",
    "rouge_lsum": "ROUGE-Lsum, sentence by sentence, leads",
}


def evaluation_line(card: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """What a reader must know before a score meets a published one; empty where the metric's name says it.

    `card` is `CorpusCard.describe`, `options` the form's options as decoding.json has them. A setting that is not the
    card's is said to be another than the published one.
    """
    lines = {"multiple_choice": _choice, "question_answering": _answers, "summarisation": _summaries}
    return lines[card["form"]](card, options) if card["form"] in lines else ""


def _choice(card: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    published, rule = card["evaluation"], f"{card['metric']} leads; acc_norm divides log-likelihoods by"
    if "prompt" not in options or "length" not in options:
        return f"prompt not recorded; {rule} a length not recorded"
    line = f"prompt {json.dumps(options['prompt'], ensure_ascii=False)}"
    if source := published.get("source"):
        same = all(options[name] == published[name] for name in ("prompt", "length"))
        line += f", {'as in' if same else 'not as in'} {source}"
    return f"{line}; {rule} {options['length']}"


def _answers(card: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    line = SQUAD[card["metric"]]
    if options.get("no_answer"):
        threshold = f"{options.get('null_threshold', 0.0):g}"
        line += f"; no answer where it scores more than {threshold} above the best span; best_: by the best threshold"
    return line


def _summaries(card: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    sentences = card["evaluation"].get("sentences")
    return f"rouge-score with stemming; {ROUGE_L[card['metric']]}" + (f"; sentences: {sentences}" if sentences else "")
