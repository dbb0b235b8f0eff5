"""A process that runs the cells of a smoke run, one after the other, in the current folder: `python -m` this module.

It reads one cell a line on stdin, {"kind", "key"}, and answers with one JSON line on what was stdout; whatever stages
print goes to stderr. Several cells share a process, since importing torch takes longer than a few steps. A stage is
called as `python -m pipelines.<stage>` calls it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from pipelines.commands.smoke_settings import PARAMS
from replication.errors import ReplicationError

MEMORY_FIX = (
    "under `training` of its task, set mixed_precision: bf16 or bf16_weights, gradient_checkpointing: true, or a "
    "smaller batch_size with more accumulation_steps; `replicate plan` shows what fits a card"
)
REPORT_FIX = "this is a fault of the code: report it with the log"


def main() -> None:
    """Answer every cell on stdin."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        cell = json.loads(line)
        print(f"--- {cell['kind']} {cell['key']}", file=sys.stderr, flush=True)
        answer(answers, run(cell["kind"], cell["key"]))


def answer(stream: TextIO, result: dict[str, Any]) -> None:
    """One line."""
    stream.write(json.dumps(result) + "\n")
    stream.flush()


def run(kind: str, key: str) -> dict[str, Any]:
    """{"stage", "error", "fix", "seconds", "cuda_bytes"}; the first three are None unless a stage failed."""
    started, stage = time.perf_counter(), kind
    found: dict[str, Any] = {"stage": None, "error": None, "fix": None}
    try:
        for name, call in stages(kind, key):
            stage = name
            call()
    except ReplicationError as error:
        found |= {"stage": stage, "error": " ".join(str(error).split())}  # which says how to fix it
    except Exception as error:  # one cell's failure must not hide the others'
        traceback.print_exc()
        lines = [*str(error).strip().splitlines(), ""]
        fix = MEMORY_FIX if type(error).__name__ == "OutOfMemoryError" else REPORT_FIX
        found |= {"stage": stage, "error": f"{type(error).__name__}: {lines[0]}", "fix": fix}
    return {**found, "seconds": time.perf_counter() - started, "cuda_bytes": peak_cuda()}


def stages(kind: str, key: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The programs of one cell in order. An iterator: a stage is imported when the one before has ended."""
    params = Path(PARAMS)
    if kind == "preflight":
        from pipelines.commands.preflight import require_readable

        yield "preflight", lambda: require_readable(params, key)
    elif kind == "prepare":
        from pipelines import prepare

        yield "prepare", lambda: prepare.main(params, key)
    elif kind == "pretrain":
        from pipelines import pretrain

        yield "pretrain", lambda: pretrain.main(params, key)
    elif kind == "search":
        from pipelines import search

        yield "search", lambda: search.main(params, key)
    elif kind == "report":
        from pipelines import report

        yield "report", lambda: report.main(params)
    else:
        from pipelines import finetune, predict, score

        yield "finetune", lambda: finetune.main(params, key)
        yield "predict", lambda: predict.main(params, key)
        yield "score", lambda: score.main(params, key)


def peak_cuda() -> int | None:
    """Peak bytes on CUDA since the last call, with everything freed for the next cell; None without CUDA."""
    torch = sys.modules.get("torch")
    gc.collect()
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    peak = int(torch.cuda.max_memory_allocated())
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


if __name__ == "__main__":
    main()
