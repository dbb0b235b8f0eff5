"""Java programs and tokenised texts, shared by the text metrics while several systems are scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, TypeVar

from replication.metrics import approximate_tokenizer, ptb_tokenizer

Program = TypeVar("Program")
Progress = Callable[[str], None]


class Programs:
    """A context manager that ends every program on exit. `java`: a path, or None for no Java."""

    def __init__(self, java: str | None = None, progress: Progress | None = None):
        self.java = java
        self.report = progress or (lambda step: None)
        self._stack = ExitStack()
        self._running: dict[str, Any] = {}
        self._tokenised: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._running.clear()

    def running(self, name: str, start: Callable[[str], AbstractContextManager[Program]]) -> Program | None:
        """The program of this name, started with Java on first use; None without Java."""
        if self.java is None:
            return None
        if name not in self._running:
            self._running[name] = self._stack.enter_context(start(self.java))
        program: Program = self._running[name]
        return program

    @property
    def tokenizer(self) -> str:
        """What tokenises the texts for METEOR, ROUGE-L and CIDEr."""
        return "Stanford PTBTokenizer (Java)" if self.java else "pure-Python Penn Treebank rules (no Java)"

    def tokenise(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Tokens of each text joined by blanks; the texts are one document, tokenised once."""
        key = tuple(texts)
        if key not in self._tokenised:
            self._tokenised[key] = tuple(
                ptb_tokenizer.tokenize(key, self.java) if self.java else approximate_tokenizer.tokenize(key)
            )
        return self._tokenised[key]

    def tokenise_lists(self, lists: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
        """`tokenise` of all texts of all lists as one document, in the shape of the lists."""
        flat = iter(self.tokenise([text for texts in lists for text in texts]))
        return tuple(tuple(next(flat) for _ in texts) for texts in lists)
