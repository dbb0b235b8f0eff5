"""analysis/ is light: no module of it, imported in a fresh process, brings torch or transformers along."""

import subprocess
import sys

HEAVY = ("torch", "transformers", "datasets", "evaluate", "peft", "accelerate", "tensorflow", "jax")
PROGRAM = """
import importlib, pkgutil, sys, analysis
for module in pkgutil.walk_packages(analysis.__path__, "analysis."):
    importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("analysis.")]))
print(sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


def test_no_module_of_analysis_loads_torch_or_transformers(project_root):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HEAVY], capture_output=True, text=True, check=True, cwd=project_root
    )
    count, heavy = done.stdout.splitlines()
    assert int(count) >= len(list((project_root / "analysis").glob("*/[a-z]*.py")))
    assert heavy == "[]"
