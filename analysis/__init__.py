"""Records and published figures in; tables, figures, statistics, verdicts and the report page out.

`load` reads run folders and published figures, `stats` holds pure statistics, `judge` the decision rule and the claims,
`show` tables, figures and the report page. `results_frame()` gives every score as one tidy pandas frame.

Nothing here imports torch or transformers: a report builds on any machine that has the run folders.
"""

from typing import Any

__all__ = ["results_frame"]


def __getattr__(name: str) -> Any:
    """Import `results_frame` lazily: `import analysis` loads nothing else."""
    if name == "results_frame":
        from analysis.load.frame import frame

        return frame
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
