"""The official tokenisation before METEOR, ROUGE-L and CIDEr: Stanford's PTBTokenizer, run as pycocoevalcap
runs it.

The program and the punctuation dropped afterwards are those of pycocoevalcap 1.2
(tokenizer/ptbtokenizer.py). Its Python wrapper writes its input next to the package and prints to the
terminal; here the text goes through a pipe, so a read-only installation works and nothing is printed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from replication.errors import ReplicationError
from replication.metrics.java import java_environment, official_program

DROPPED = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""Tokens left out of the scores. Brackets survive in fact, since they arrive in lower case ("-lrb-")."""

# What the program takes for the end of a line; inside a text it would shift all later lines.
_LINE_ENDS = re.compile(r"[\n\r\v\f\u2028\u2029]")
_SECONDS = 300


def tokenize(texts: Sequence[str], java: str) -> list[str]:
    """Lower-case tokens of each text, joined by single blanks, punctuation dropped; one Java start for all.

    Like the official wrapper it tokenises all texts as the lines of one document, so pass the references of
    a corpus in one call and the predictions in another. Raises ReplicationError if the program fails, gives
    no answer within five minutes and a second per thousand texts, or returns another number of lines.
    """
    if not texts:
        return []
    jar = official_program("tokenizer", "stanford-corenlp-3.4.1.jar")
    command = [java, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    document = "\n".join(_LINE_ENDS.sub(" ", text) for text in texts)
    try:
        done = subprocess.run(
            command,
            input=document.encode("utf-8", errors="replace"),
            capture_output=True,
            env=java_environment(),
            timeout=_SECONDS + len(texts) // 1000,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReplicationError(f"the official tokenizer did not run: {error}") from error
    lines = done.stdout.decode("utf-8", errors="replace").split("\n")
    if done.returncode != 0 or len(lines) != len(texts):
        detail = done.stderr.decode("utf-8", errors="replace").strip()[-500:]
        raise ReplicationError(
            f"the official tokenizer returned {len(lines)} lines for {len(texts)} texts "
            f"(exit code {done.returncode}): {detail}"
        )
    return [drop_punctuation(line.rstrip().split(" ")) for line in lines]


def drop_punctuation(tokens: Sequence[str]) -> str:
    """The tokens that count, joined by single blanks."""
    return " ".join(token for token in tokens if token not in DROPPED)
