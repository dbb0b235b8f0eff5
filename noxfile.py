"""The quick tests on other interpreters, and with newer transformers and PEFT than the pinned ones.

    pip install nox
    nox --list
    nox --session tests-3.12 newest

The pinned transformers and PEFT are the oldest supported: transformers 5.22 has no `activation_checkpointing_enable`.
A session of an interpreter that is not installed is skipped. Runs are listed in docs/test-slow.md.
"""

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

QUICK = "not slow and not long and not browser"


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The pinned packages."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    run_tests(session)


@nox.session(python="3.11")
def newest(session: nox.Session) -> None:
    """The newest transformers and PEFT, the other packages as pinned."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    session.install("--upgrade", "transformers", "peft")
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    """What `make test-quick` runs."""
    session.run("dvc", "pull", "data.dvc")
    command = ("python", "-m", "pytest", "--numprocesses", "2", "--dist", "loadfile", "-m", QUICK)
    session.run(*command, *session.posargs, env={"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})
