"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real recordings; the test is skipped, saying so, where it is absent.

    `BIRDSTACK_TEST_DATA` names it; without that, the folder `shared/data` beside the clone.
    """
    folder = Path(os.environ.get("BIRDSTACK_TEST_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder} (set BIRDSTACK_TEST_DATA)")
    return folder
