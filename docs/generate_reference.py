"""Writes the parts of the reference that the code itself knows; a test holds them in step.

python docs/generate_reference.py            write
python docs/generate_reference.py --check    exit 1 if something is not up to date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from birdstack.features.column_table import features_markdown, with_features
from birdstack.stacking.cli import app
from birdstack.stacking.settings import Settings
from birdstack.store.settings_model import settings_markdown

REFERENCE = Path(__file__).resolve().parent / "reference"

_INTRODUCTION = """\
# The command

`birdstack` has these verbs. Each takes `--help`. Progress and warnings go to stderr, results
to stdout; with `--json` stdout carries JSON only: one document from the verbs that look
(`store ls`, `describe`, `history`, `compact`, `vacuum`), one event a line from the others.

| exit code | meaning |
|---|---|
| 0 | done |
| 3 | finished, but recordings or rows were left out; they are listed with reasons |
| 1 | failed |
| 2 | wrong usage: path, flag, setting, name |
| 130 | stopped by Ctrl-C or SIGTERM; what was finished is committed, run it again to go on |

`--store` may also be given as `BIRDSTACK_STORE`, `--config` as `BIRDSTACK_CONFIG`.
"""


def command_reference() -> str:
    """The page about the command, from the command itself."""
    root = typer.main.get_command(app)
    return _INTRODUCTION + "".join(_sections(root, "birdstack"))


def _sections(command: Any, path: str) -> Iterator[str]:
    for name, verb in getattr(command, "commands", {}).items():
        full = f"{path} {name}"
        if getattr(verb, "commands", None):
            yield from _sections(verb, full)
        else:
            yield _section(verb, full)


def _section(verb: Any, path: str) -> str:
    arguments = [p for p in verb.params if p.param_type_name == "argument"]
    options = [p for p in verb.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([path, *(_spelled(p) for p in arguments), "[OPTIONS]"])
    lines = [f"\n## {path}\n", verb.help.strip() + "\n", f"Usage: `{usage}`\n"]
    lines += ["| option | meaning |", "|---|---|"]
    lines += [f"| `{_spelled(p)}` | {p.help or ''} |" for p in [*arguments, *options]]
    examples = [line for line in verb.epilog.splitlines() if line.startswith("birdstack")]
    lines += ["", "Examples:", ""]
    lines += [f"- `{example.split('   ')[0]}`{_remark(example)}" for example in examples]
    return "\n".join(lines) + "\n"


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
        return name if parameter.required else f"[{name}]"
    flag = ", ".join(parameter.opts)
    return flag if parameter.is_flag else f"{flag} {parameter.metavar or 'VALUE'}"


def _remark(example: str) -> str:
    remark = example.partition("   ")[2].strip()
    return f" {remark}" if remark else ""


def with_settings(page: str) -> str:
    """A page with the table of settings between its markers."""
    begin, end = "<!-- settings:begin -->", "<!-- settings:end -->"
    table = f"{begin}\n\n{settings_markdown(Settings).strip()}\n\n{end}"
    return re.sub(f"{begin}.*?{end}", lambda _: table, page, flags=re.DOTALL)


def pages() -> dict[Path, str]:
    """Every generated page: path and what it should hold."""
    configuration = REFERENCE / "configuration.md"
    features = REFERENCE / "features.md"
    return {
        REFERENCE / "cli.md": command_reference(),
        configuration: with_settings(configuration.read_text("utf-8")),
        features: with_features(features.read_text("utf-8"), features_markdown()),
    }


def main() -> int:
    """Write the pages, or with --check compare them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in pages().items():
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(path)
            if not check:
                path.write_text(text, "utf-8")
    for path in stale:
        sys.stdout.write(f"{'stale' if check else 'written'}: {path.name}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
