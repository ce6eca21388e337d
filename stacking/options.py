"""Options that every verb shares, and how a verb ends."""

from __future__ import annotations

import functools
import json as jsonlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from birdstack.store.errors import BirdstackError, UsageError

DONE, FAILED, WRONG_USAGE, SKIPPED, INTERRUPTED = 0, 1, 2, 3, 130

StorePath = Annotated[
    str,
    typer.Option("--store", envvar="BIRDSTACK_STORE", help="The store: a folder or s3:// address."),
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="BIRDSTACK_CONFIG", help="Settings file (birdstack.toml, if there)."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. grid.hop_s=2.5."),
]
At = Annotated[
    str | None, typer.Option("--at", help="Snapshot: a number of `store history`, or a pin.")
]

P = ParamSpec("P")


def reporting(verb: Callable[P, int]) -> Callable[P, None]:
    """Run a verb and end with its exit code; turn errors into messages with a remedy."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = verb(*args, **kwargs)
        except BirdstackError as error:
            _say_error(error, as_json=bool(kwargs.get("json")))
            code = WRONG_USAGE if isinstance(error, UsageError) else FAILED
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            code = INTERRUPTED
        except BrokenPipeError:  # the reader of our output has seen enough, as with `| head`
            sys.stderr.close()
            code = DONE
        raise typer.Exit(code)

    return run


def _say_error(error: BirdstackError, *, as_json: bool) -> None:
    if as_json:
        event = {"event": "failed", "error": error.message, "remedy": error.remedy}
        sys.stdout.write(jsonlib.dumps(event) + "\n")
    sys.stderr.write(f"error: {error}\n")
