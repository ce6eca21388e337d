"""A Python process in which packages are as if they were not installed, without internet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TRAINING = ("optuna", "sklearn", "torch", "timm", "torchvision", "xgboost", "dataframely")
"""What only trains, or only ingests."""

_PRELUDE = """
import socket, sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        gone = any(name == each or name.startswith(each + ".") for each in {hidden!r})
        return None if gone else self.finder.find_spec(name, path, target)

def refuse(*_):
    raise OSError("there is no internet")

sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
socket.socket.connect = socket.getaddrinfo = refuse
"""


def run_alone(
    script: str, folder: Path, hidden: Sequence[str] = TRAINING
) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", _PRELUDE.format(hidden=tuple(hidden)) + script],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "BIRDSTACK_STORE"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
