"""Converted networks on disk: made once, checked when read, shared by processes.

An entry is a folder with the converted files and `manifest.json`, which holds what the entry
was made from and a sha256 of each file. It appears by renaming a finished folder, so readers
see all of it or nothing; one that fails its digests is made anew. The name is a digest of
everything that decides the content: weights, code, shapes and versions.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_MANIFEST = "manifest.json"
_ASIDE = ".making-"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_BY_VERSION = ("torch", "timm", "torchvision")


@contextmanager
def converted(
    cache: Path | None, kind: str, key: Mapping[str, Any], convert: Callable[[Path], None]
) -> Iterator[Path]:
    """A folder with a converted network, for as long as the block lasts.

    Args:
        cache: where entries are kept; None, or one that cannot be written to: what is not in
            it is made in a temporary folder.
        kind: start of the entry's name.
        key: JSON-able: everything that decides the content.
        convert: writes the files into the folder it is given.

    Yields:
        The folder: read only.
    """
    told = json.dumps(key, sort_keys=True)
    name = f"{kind}-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
    entry = cache / name if cache is not None else None
    if entry is not None and _is_whole(entry):
        yield entry
        return
    with _aside(cache) as (folder, kept):
        convert(folder)
        if kept and entry is not None:
            _seal(folder, key)
            yield _publish(folder, entry)
        else:
            yield folder


def network_digest(network: nn.Module) -> str:
    """sha256 of a network: its tree, plain attributes, tensors, and the code of its own modules.

    Code of torch and timm counts by version, all other by the text of its file.
    """
    digest = hashlib.sha256(_ADDRESS.sub("", repr(network)).encode())
    for package in _BY_VERSION:
        digest.update(f"{package} {version(package)}".encode())
    for name in sorted({type(module).__module__ for module in network.modules()}):
        if name.partition(".")[0] not in _BY_VERSION:
            digest.update(name.encode())
            digest.update(_source(name))
    for path, module in network.named_modules():
        digest.update(f"{path} {_plain(vars(module))}".encode())
    tensors = itertools.chain(network.named_parameters(), network.named_buffers())
    for name, tensor in sorted(tensors, key=lambda named: named[0]):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(dtype=_bytes_type()).numpy().tobytes())
    return digest.hexdigest()


def _plain(attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Attributes that branches hang on, such as the name of a pooling; `repr` shows few."""
    kinds = (str, int, float, bool, tuple, type(None))
    return sorted(
        (name, _ADDRESS.sub("", repr(value)))
        for name, value in attributes.items()
        if isinstance(value, kinds) and name != "training"
    )


def version(package: str) -> str:
    """Installed version; empty where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _bytes_type() -> Any:
    import torch  # noqa: PLC0415 - a network was given, so it is loaded

    return torch.uint8


def _source(module: str) -> bytes:
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path).read_bytes() if path else b""


def _is_whole(entry: Path) -> bool:
    """Whether the entry holds the bytes that were written."""
    try:
        digests = json.loads((entry / _MANIFEST).read_text("utf-8"))["files"]
        return all(_digest(entry / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False


def _seal(folder: Path, key: Mapping[str, Any]) -> None:
    """Note what the files are, beside them."""
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    manifest = json.dumps({"key": key, "files": files}, indent=1, sort_keys=True)
    (folder / _MANIFEST).write_text(manifest + "\n", "utf-8")


def _publish(folder: Path, entry: Path) -> Path:
    """Give a finished folder its name, unless a whole entry has it by now."""
    for _ in range(2):
        try:
            folder.rename(entry)
        except OSError:
            if _is_whole(entry):
                return entry  # another process was quicker
            _remove(entry)
        else:
            return entry
    return folder


def _remove(entry: Path) -> None:
    """Take a broken entry out of the way, whoever else does so too."""
    try:
        with tempfile.TemporaryDirectory(prefix=_ASIDE, dir=entry.parent) as folder:
            entry.rename(Path(folder) / "broken")
    except OSError:
        shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _aside(cache: Path | None) -> Iterator[tuple[Path, bool]]:
    """An empty folder to work in, and whether it lies in the cache."""
    if cache is not None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=cache))
        except OSError:
            pass
        else:
            try:
                yield folder, True
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name), False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
