"""The quick tests on every supported Python, and with the oldest and newest supported transformers and PEFT.

`nox` runs what it finds and skips an interpreter that is not installed.
"""

import nox

nox.options.error_on_missing_interpreters = False
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LIBRARIES = {"oldest": ("transformers==5.23.0", "peft==0.21.2"), "newest": ("transformers", "peft")}
"""The lower bounds of pyproject.toml, and what is newest on the day of the run."""
QUICK = ("-m", "not slow and not long and not browser and not mirror")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The quick tests with the pinned packages."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", *QUICK, *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("libraries", list(LIBRARIES))
def libraries(session: nox.Session, libraries: str) -> None:
    """Methods, training and metrics with other releases of transformers and PEFT."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev]")
    session.install("--upgrade", *LIBRARIES[libraries])
    parts = ("methods", "training", "metrics")
    session.run("python", "-m", "pytest", *QUICK, *(f"tests/replication/{part}" for part in parts), *session.posargs)
