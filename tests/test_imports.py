"""The import contracts of pyproject.toml: one direction, no torch in analysis, no circle in the library."""

import subprocess
import sys

LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def test_the_import_contracts_hold(project_root):
    # in a separate process: import-linter writes to the standard output that it met first, which pytest has closed
    done = subprocess.run([sys.executable, "-c", LINT], cwd=project_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout
