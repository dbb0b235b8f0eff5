"""What DVC runs, one stage a file: each reads parameters, calls the library, writes files.

Nothing imports this package.
"""

import os

# Loading a checkpoint takes a second; its bar would drown the bars of the steps that take minutes.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
