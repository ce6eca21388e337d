"""What every verb starts from: resolved settings, an open store, somebody to report to."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from birdstack.stacking.console import Reporter
from birdstack.stacking.settings import Settings
from birdstack.store.config import Resolved, load
from birdstack.store.errors import NoStoreError, UsageError
from birdstack.store.store import Store

_DEFAULT_FILE = Path("birdstack.toml")
_RECORDED = ("birdstack", "numpy", "scipy", "polars", "pyarrow", "librosa", "soundfile", "soxr")


@dataclass(frozen=True)
class Session:
    """One run of a verb.

    Attributes:
        store_url: where the store lies or will lie.
        resolved: the settings, and where each came from.
        reporter: what people or programs get to read.
    """

    store_url: str
    resolved: Resolved[Settings]
    reporter: Reporter

    @classmethod
    def start(
        cls,
        store_url: str,
        config: Path | None,
        assignments: Sequence[str] | None,
        flags: Mapping[str, Any],
        *,
        as_json: bool,
    ) -> Session:
        """Resolve settings from file, environment and flags.

        Raises:
            ConfigError: a setting does not fit.
            UsageError: the settings file does not exist.
        """
        if config is not None and not config.is_file():
            message = f"--config {config}: no such file"
            raise UsageError(message, remedy="give a TOML file, or leave --config away")
        toml = config or (_DEFAULT_FILE if _DEFAULT_FILE.is_file() else None)
        given = {**flags, **dict(_assignment(text) for text in assignments or [])}
        resolved = load(Settings, toml=toml, environ=os.environ, flags=given)
        return cls(store_url, resolved, Reporter(as_json=as_json))

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.resolved.settings

    def given(self, section: str) -> bool:
        """Whether the user has set anything in a section."""
        return any(
            source != "default"
            for key, source in self.resolved.sources.items()
            if key.startswith(f"{section}.")
        )

    def open_store(self) -> Store:
        """Open the store.

        Raises:
            UsageError: there is none, or its window grid is not the one asked for.
        """
        store = Store.open(self.store_url)
        return Store.create(self.store_url, self.settings.grid) if self.given("grid") else store

    def create_store(self) -> Store:
        """Open the store, or make it with the settings' window grid."""
        try:
            return self.open_store()
        except NoStoreError:
            return Store.create(self.store_url, self.settings.grid)

    def provenance(self) -> dict[str, Any]:
        """Settings and environment, as every commit of the run keeps them."""
        versions = {}
        for name in _RECORDED:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        environment = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "command": " ".join(["birdstack", *sys.argv[1:]]),
            "versions": versions,
        }
        return {"config": self.resolved.as_dict(), "environment": environment}


def _assignment(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        message = f"--set {text!r} must be KEY=VALUE"
        raise UsageError(message, remedy="write for example --set grid.hop_s=2.5")
    return key.strip(), value
