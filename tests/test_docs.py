"""The documents are executed: what they show works, and what works is in them.

In README.md, CONTRIBUTING.md and docs/, every `python` block runs, and every line of a
`console` block that starts with `$ birdstack`. The blocks of one document run in their
order, share one namespace, and start in a folder that holds a small dataset, `birds/`, in
BirdCLEF layout. A command must exit with 0, or with N where `# exit code N` ends its line.
A block is left out only below a comment `<!-- not executed: reason -->`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [REPO / "README.md", REPO / "CONTRIBUTING.md", *(REPO / "docs").rglob("*.md")],
)
CLI_REFERENCE = REPO / "docs" / "reference" / "cli.md"

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)")
NOT_EXECUTED = re.compile(r"^\s*<!-- not executed:(?P<reason>.*)-->\s*$")
EXIT_CODE = re.compile(r"#\s*exit code (?P<code>\d+)\s*$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)")
# A path that exists on one machine only has no place in the project.
MACHINE_PATH = re.compile(r"(?<![\w./~$}-])/(?:work|root|home/\w+|Users/\w+)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: what stands behind the fence.
        line: line of the fence, from 1.
        text: the block, without the fence's indentation.
        excuse: why it is not executed; None if it is, empty if no reason is given.
    """

    language: str
    line: int
    text: str
    excuse: str | None


def _blocks(document: Path) -> list[Block]:
    blocks: list[Block] = []
    before = ""
    lines = iter(enumerate(document.read_text("utf-8").splitlines(), start=1))
    for number, line in lines:
        fence = FENCE.match(line)
        if fence is None:
            before = line if line.strip() else before
            continue
        body = []
        for _, inner in lines:
            if inner.strip() == "```":
                break
            body.append(inner.removeprefix(fence["indent"]))
        else:
            pytest.fail(f"{_name(document)}:{number}: the block is not closed")
        excuse = NOT_EXECUTED.match(before)
        blocks.append(
            Block(
                language=fence["language"],
                line=number,
                text="\n".join(body) + "\n",
                excuse=excuse["reason"].strip() if excuse else None,
            )
        )
        before = ""
    return blocks


def _commands(block: Block) -> list[str]:
    """The `$ birdstack` commands of a console block, continued lines joined."""
    text = block.text.replace("\\\n", " ")
    return [line[2:] for line in text.splitlines() if line.startswith("$ birdstack")]


def _name(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def _without_code(text: str) -> str:
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`code`", text)


@pytest.fixture(scope="session")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset in BirdCLEF 2024 layout: 3 species, 12 recordings, 1 soundscape."""
    import soundfile

    root = tmp_path_factory.mktemp("docs") / "birds"
    rng = np.random.default_rng(2024)
    rate_hz = 32_000
    species = {
        "asbfly": ("Muscicapa dauurica", "Asian Brown Flycatcher", 5200.0),
        "comkin1": ("Alcedo atthis", "Common Kingfisher", 6800.0),
        "zitcis1": ("Cisticola juncidis", "Zitting Cisticola", 4100.0),
    }

    def write(path: Path, tone_hz: float, duration_s: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
        chirps = np.sin(2 * np.pi * tone_hz * time_s) * (np.sin(2 * np.pi * 2 * time_s) > 0)
        sound = 0.2 * chirps + 0.01 * rng.standard_normal(time_s.size)
        soundfile.write(path, sound.astype(np.float32), rate_hz, format="OGG", subtype="VORBIS")

    header = "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name"
    rows = [f"{header},author,license,rating,url,filename"]
    for label, (scientific, common, tone_hz) in species.items():
        for i in range(4):
            number = 1000 * (len(rows) // 4 + 1) + i
            filename = f"{label}/XC{number}.ogg"
            write(root / "train_audio" / filename, tone_hz + 50 * i, 6.0 + 2 * i)
            secondary = "['comkin1']" if label == "asbfly" and i == 0 else "[]"
            rows.append(
                f"{label},{secondary},['song'],{10.5 + i},{76.2 + i},{scientific},{common},"
                f"Recordist {number},CC BY 4.0,{i + 1.5},https://example.org/{number},{filename}"
            )
    (root / "train_metadata.csv").write_text("\n".join(rows) + "\n", "utf-8")
    labels = ",".join(species)
    submission = f"row_id,{labels}\nsoundscape_1_5,0.3,0.3,0.3\n"
    (root / "sample_submission.csv").write_text(submission, "utf-8")
    write(root / "unlabeled_soundscapes" / "460830.ogg", 5200.0, 20.0)
    return root


def _run_command(command: str, folder: Path, where: str) -> None:
    found = EXIT_CODE.search(command)
    expected = int(found["code"]) if found else 0
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BIRDSTACK_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**environment, "NO_COLOR": "1", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == expected, (
        f"{where}: `{command}` exits with {run.returncode}\n{run.stdout}\n{run.stderr}"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_examples_run(
    document: Path, birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a document run in order; those left out give a reason, and compile."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    blocks = [b for b in _blocks(document) if b.language in {"python", "console"}]
    if any(block.excuse is None for block in blocks):
        shutil.copytree(birds, tmp_path / "birds")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        where = f"{_name(document)}:{block.line}"
        assert block.excuse != "", f"{where}: say why the block is not executed"
        if block.language == "python":
            code = compile("\n" * block.line + block.text, str(document), "exec")
            if block.excuse is None:
                exec(code, namespace)  # noqa: S102 - the document is ours
        elif block.excuse is None:
            for command in _commands(block):
                _run_command(command, tmp_path, where)


def _walk(command, path: tuple[str, ...] = ()):
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from _walk(child, (*path, name))


def _verbs() -> dict[str, object]:
    import typer.main

    from birdstack.stacking.cli import app

    return {" ".join(path): verb for path, verb in _walk(typer.main.get_command(app))}


def test_every_verb_is_in_the_reference() -> None:
    """docs/reference/cli.md speaks of each verb of the command."""
    text = CLI_REFERENCE.read_text("utf-8")
    verbs = _verbs()
    assert verbs
    missing = [verb for verb in verbs if not re.search(rf"birdstack {verb}(?![\w-])", text)]
    assert not missing, f"add these verbs to {_name(CLI_REFERENCE)}: {missing}"


def test_every_verb_has_help_with_an_example() -> None:
    """`birdstack VERB --help` says what the verb does and shows one call of it."""
    bare = [
        verb
        for verb, command in _verbs().items()
        if f"birdstack {verb}" not in f"{command.help or ''}\n{command.epilog or ''}"
    ]
    assert not bare, f"add an example, `birdstack VERB ...`, to the help of {bare}"


def _anchors(document: Path) -> set[str]:
    """Anchors of the headings, as code hosts form them; none where there is no file."""
    if not document.is_file():
        return set()
    headings = re.findall(r"^#+ +(.+?) *$", document.read_text("utf-8"), flags=re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("document", [*DOCUMENTS, REPO / "CHANGELOG.md"], ids=_name)
def test_links_resolve(document: Path) -> None:
    """Every link to a file of the project, or to a heading in it, leads somewhere."""
    broken = []
    for match in LINK.finditer(_without_code(document.read_text("utf-8"))):
        file, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", file):
            continue
        target = (document.parent / file).resolve() if file else document
        heading_lost = anchor and target.suffix == ".md" and anchor not in _anchors(target)
        if not target.exists() or not target.is_relative_to(REPO) or heading_lost:
            broken.append(match["target"])
    assert not broken, f"{_name(document)} links to what is not there: {broken}"


def test_every_page_is_reachable() -> None:
    """Following links from docs/index.md leads to every page under docs/."""
    start = REPO / "docs" / "index.md"
    seen, queue = {start}, [start]
    while queue:
        page = queue.pop()
        for match in LINK.finditer(_without_code(page.read_text("utf-8"))):
            target = (page.parent / match["target"].partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file() and target not in seen:
                seen.add(target)
                queue.append(target)
    orphans = [_name(page) for page in (REPO / "docs").rglob("*.md") if page not in seen]
    assert not orphans, f"link these pages from docs/index.md: {orphans}"


def test_no_file_names_a_path_of_one_machine() -> None:
    """Nothing in the project points to a folder that only its author has."""
    run = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPO,
        capture_output=True,
        check=False,
    )
    if run.returncode:
        pytest.skip("not a git clone: there is no list of the project's files")
    found = []
    for name in run.stdout.decode().split("\0"):
        path = REPO / name
        if not name or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert not found, f"write these without an absolute path: {found}"


def test_the_parser_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fences, continued commands and excuses are read as the module says."""
    monkeypatch.setattr(sys.modules[__name__], "REPO", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "Text.\n\n```console\n$ birdstack ingest birds \\\n    --store s\nDone.\n$ ls\n```\n\n"
        "<!-- not executed: needs a network -->\n\n```python\nx = 1\n```\n\n"
        "1. Item\n\n   ```python\n   y = 2\n   ```\n"
    )
    console, excused, indented = _blocks(page)
    assert [shlex.split(c) for c in _commands(console)] == [
        ["birdstack", "ingest", "birds", "--store", "s"]
    ]
    assert console.excuse is None
    assert (excused.excuse, excused.line) == ("needs a network", 12)
    assert (indented.text, indented.excuse) == ("y = 2\n", None)
