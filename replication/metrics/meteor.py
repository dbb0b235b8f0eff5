"""METEOR 1.5 by its official Java program, as pycocoevalcap ships and calls it.

Without Java there is no METEOR and no approximation of it. It is not resampled, being no function of sums over items.

The corpus score is the program's own aggregate. pycocoevalcap's own wrapper waits for ever when Java dies and leaves an
error pipe unread; this one waits a bounded time, reports what Java's output, and always ends the process.
"""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO

from replication.errors import ProgramError
from replication.metrics.java import java_environment, official_program
from replication.metrics.metric import Floats, Rows, lists_of_texts, texts
from replication.metrics.programs import Programs
from replication.metrics.texts import References, TextMetric, Texts

ANSWER_SECONDS = 300.0
_SEPARATOR = "|||"
_LINES = 5000  # said at a time; the answers are read meanwhile


class MeteorProgram:
    """One running METEOR program, to be used in a `with` block.

    It reads a 60 MB paraphrase table at its start (6 to 8 s on two idle cores), in the background of whatever
    the caller does first: start it early, score many systems with it.
    """

    def __init__(self, java: str, answer_seconds: float = ANSWER_SECONDS):
        jar = official_program("meteor", "meteor-1.5.jar")
        # One collector thread is as fast here and halves the memory (measured: 0.6 instead of 1.25 GB).
        memory = ["-Xmx2G", "-XX:+UseSerialGC"]
        command = [java, *memory, "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
        self._answer_seconds = answer_seconds
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                cwd=jar.parent,  # the program finds its paraphrase table relative to this folder
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                env=java_environment(),
            )
        except OSError as error:
            self._complaints.close()
            raise ProgramError(f"METEOR did not start: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._stdout: IO[bytes] = self._process.stdout
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._collect_answers, daemon=True)
        self._reader.start()

    def __enter__(self) -> MeteorProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and free its pipes; a second call does nothing."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._stdin, self._stdout, self._complaints):
            try:
                stream.close()
            except OSError:  # a line Java never took was still in the pipe's buffer
                continue

    def corpus_score(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        progress: Callable[[str], None] | None = None,
    ) -> float:
        """The program's aggregate over the corpus (not the mean of items), 0 to 1.

        Texts are tokenised, blanks between tokens. Raises ProgramError if Java ends, is silent for
        longer than `answer_seconds`, or answers with something that is no number.
        """
        lines = [_score_line(prediction, items) for prediction, items in zip(predictions, references, strict=True)]
        statistics: list[str] = []
        for start in range(0, len(lines), _LINES):
            portion = lines[start : start + _LINES]
            self._say("\n".join(portion))
            statistics += [self._answer() for _ in portion]
            if progress and len(lines) > _LINES:
                progress(f"METEOR: {len(statistics):,} of {len(lines):,} items")
        self._say(f" {_SEPARATOR} ".join(["EVAL", *statistics]))
        answers = [self._answer() for _ in range(len(predictions) + 1)]
        try:
            return float(answers[-1])
        except ValueError:
            raise ProgramError(f"METEOR's answer is not a score: {answers[-1]!r}") from None

    def _say(self, line: str) -> None:
        # A program that no longer reads would block the pipe once it is full; ending it unblocks us.
        watchdog = threading.Timer(self._answer_seconds, self._process.kill)
        watchdog.start()
        try:
            self._stdin.write(line.encode("utf-8", errors="replace") + b"\n")
            self._stdin.flush()
        except OSError:
            raise self._failure("ended early or stopped reading") from None
        finally:
            watchdog.cancel()

    def _answer(self) -> str:
        try:
            answer = self._answers.get(timeout=self._answer_seconds)
        except queue.Empty:
            raise self._failure(f"gave no answer within {self._answer_seconds:g} s") from None
        if answer is None:
            raise self._failure("ended early")
        return answer.decode("utf-8", errors="replace").strip()

    def _collect_answers(self) -> None:
        for line in self._stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _failure(self, what: str) -> ProgramError:
        self._process.kill()
        self._process.wait()
        self._complaints.seek(0)
        output = self._complaints.read().decode("utf-8", errors="replace").strip()[-500:]
        return ProgramError(f"METEOR's Java program {what}; its output: {output or 'none'}")


def _score_line(prediction: str, references: Sequence[str]) -> str:
    texts = [text.replace(_SEPARATOR, "").replace("  ", " ") for text in (*references, prediction)]
    return f" {_SEPARATOR} ".join(["SCORE", *texts])


class Meteor(TextMetric):
    """The program's aggregate over the corpus."""

    name = "METEOR"
    label = "METEOR"
    scale = "fraction, 0 to 1"
    position = 3
    resampled = "no"
    java = "program"

    def begin(self, programs: Programs) -> None:
        """Start the program, which reads its paraphrase table meanwhile."""
        programs.running("METEOR", MeteorProgram)

    def text_statistics(self, predictions: Texts, references: References) -> Floats:
        """Not defined."""
        raise NotImplementedError("METEOR has no item statistics; its score comes only from the Java program")

    def official(self, rows: Rows, programs: Programs) -> float | None:
        """By the program, on the official tokenisation; None without Java."""
        program = programs.running("METEOR", MeteorProgram)
        if program is None:
            return None
        references = programs.tokenise_lists(lists_of_texts(rows, "references"))
        return program.corpus_score(programs.tokenise(texts(rows, "prediction")), references, programs.report)


METRIC = Meteor()
