"""Generated pages of the reference are what the code says now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


def test_generated_pages_are_up_to_date():
    """Verbs, options and settings in the docs are those of the code."""
    done = subprocess.run(
        [sys.executable, REPO / "docs" / "generate_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, f"run `make docs`: {done.stdout}{done.stderr}"
