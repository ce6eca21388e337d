"""Settings from four sources: default < TOML file < environment < flag.

The root model has one nested frozen model per section, so a setting is `section.key`:
`[section]` in the file, `BIRDSTACK_SECTION__KEY` in the environment. Each value is checked
where it enters, and its source is kept. pydantic-settings is not used: it passes over
unknown variables in silence and cannot say where a value came from.
"""

from __future__ import annotations

import difflib
import json
import operator
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, NoReturn, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from birdstack.store.errors import ConfigError
from birdstack.store.settings_model import (
    bounds,
    defaults_of,
    fields_of,
    section_model_of,
    type_name,
)

PREFIX = "BIRDSTACK_"

RESERVED_VARIABLES = (
    "BIRDSTACK_CACHE",
    "BIRDSTACK_CONFIG",
    "BIRDSTACK_KILL_SEED",
    "BIRDSTACK_STORE",
    "BIRDSTACK_TEST_*",
)
"""Variables with the prefix that are no settings; `*` stands for any ending."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Resolved(Generic[M]):
    """Settings, and where each of them came from.

    Attributes:
        settings: the root model, complete and checked.
        sources: dotted key to `default`, `birdstack.toml:12`, `environment BIRDSTACK_...`
            or `--set section.key`.
    """

    settings: M
    sources: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: `settings` by section, and `sources`."""
        return {"settings": self.settings.model_dump(mode="json"), "sources": dict(self.sources)}


class _Given(NamedTuple):
    """A value as one source gave it.

    Attributes:
        key: dotted key.
        value: as the source has it.
        source: as `Resolved.sources` names it.
        spelling: how the source writes a key.
        typed: whether the source has types, so that `"6"` is not a number.
    """

    key: str
    value: Any
    source: str
    spelling: Callable[[str], str]
    typed: bool = False


def load(
    model: type[M],
    *,
    toml: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Resolved[M]:
    """Read the settings of `model` from all sources.

    Args:
        model: root model; each field is a section, itself a frozen model.
        toml: the settings file; None for no file. Its values must have the right TOML type.
        environ: environment variables; those without the prefix `BIRDSTACK_` are ignored.
            Lists, tables and null are written as JSON.
        flags: dotted key to value; None means that the flag was not given.

    Raises:
        ConfigError: a file cannot be read, a section or key is unknown, or a value does not
            fit; the message names the source, the key, the rule and the value.
    """
    fields = fields_of(model)
    given: dict[str, _Given] = {}
    for item in chain(
        _from_toml(toml, fields), _from_environ(environ or {}, fields), _from_flags(flags or {})
    ):
        if item.key not in fields:
            _refuse_key(item, fields)
        given[item.key] = item._replace(value=_coerced(item, fields[item.key]))
    sections = {name: _section(model, name, given) for name in model.model_fields}
    sources = {key: given[key].source if key in given else "default" for key in fields}
    try:
        settings = model(**sections)
    except ValidationError as error:
        _refuse_together(error, list(given.values()))
    return Resolved(settings, sources)


# --- the sources ------------------------------------------------------------------------


def _from_toml(path: Path | None, fields: Mapping[str, FieldInfo]) -> Iterator[_Given]:
    if path is None:
        return
    document, lines = _parsed(path)
    sections = {key.partition(".")[0] for key in fields}
    for section, body in document.items():
        source = f"{path}:{lines[section,]}"
        if section not in sections:
            _refuse_key(_Given(section, body, source, str), fields)
        if not isinstance(body, dict):
            message = f"{source}: {section} is a section, got {body!r}"
            raise ConfigError(message, remedy=f"write [{section}] and its keys on the lines below")
        for name, value in body.items():
            source = f"{path}:{lines[section, name]}"
            yield _Given(f"{section}.{name}", value, source, str, typed=True)


def _parsed(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The file's content, and the first line of each section and key."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path}: the settings file cannot be read: {error}"
        raise ConfigError(message, remedy="name a UTF-8 TOML file that can be read") from error
    try:
        return tomllib.loads(text), _lines(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column (\d+)\)", str(error))
        line = found[1] if found else str(text.rstrip().count("\n") + 1)
        said = re.sub(r" \(at .*\)$", "", str(error))
        message = f"{path}:{line}: not TOML: {said}"
        raise ConfigError(
            message, remedy=f"correct line {line} or the statement it ends"
        ) from error


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """First line of each section `(section,)` and key `(section, key)` of valid TOML.

    tomllib keeps no positions, so it is fed statement by statement: lines are added until
    the piece parses, which a multi-line value does at its last line and not before.
    """
    lines: dict[tuple[str, ...], int] = {}
    header: tuple[str, ...] = ()
    piece, start = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        piece += line + "\n"
        try:
            statement = tomllib.loads(piece)
        except tomllib.TOMLDecodeError:
            continue
        if piece.lstrip().startswith("["):
            header = next(iter(_paths(statement)))
            paths = {header}
        else:
            paths = {header + path for path in _paths(statement)}
        for path in paths:
            lines.setdefault(path[:1], start)
            lines.setdefault(path[:2], start)
        piece, start = "", number + 1
    return lines


def _paths(value: object) -> set[tuple[str, ...]]:
    """All paths from the root of nested tables to what is no table, or an empty one."""
    if not isinstance(value, dict) or not value:
        return {()}
    return {(name, *path) for name, inner in value.items() for path in _paths(inner)}


def _from_environ(environ: Mapping[str, str], fields: Mapping[str, FieldInfo]) -> Iterator[_Given]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or any(fnmatchcase(name, r) for r in RESERVED_VARIABLES):
            continue
        section, mark, key = name.removeprefix(PREFIX).lower().partition("__")
        if not mark:
            names = [_variable(field) for field in fields] + list(RESERVED_VARIABLES)
            ends = [known for known in names if known.endswith("__" + name.removeprefix(PREFIX))]
            near = ends or difflib.get_close_matches(name, names, n=1)
            message = (
                f"environment {name}: not the name of a setting, which has a double underscore"
            )
            hint = f"write {near[0]}" if near else f"write {PREFIX}SECTION__KEY"
            raise ConfigError(message, remedy=f"{hint}, or unset it")
        yield _Given(f"{section}.{key}", environ[name], f"environment {name}", _variable)


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


def _from_flags(flags: Mapping[str, Any]) -> Iterator[_Given]:
    for key, value in flags.items():
        if value is not None:
            yield _Given(key, value, f"--set {key}", "{}".format)


# --- checks -----------------------------------------------------------------------------


def _coerced(item: _Given, field: FieldInfo) -> Any:
    """The value in the field's type, by the rules of its source."""
    annotation: Any = field.annotation
    if field.metadata:
        annotation = operator.getitem(Annotated, (annotation, *field.metadata))
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        if item.typed:
            # As JSON, for in strict Python a list would be no tuple and a text no path.
            return adapter.validate_json(json.dumps(item.value, default=str), strict=True)
        return adapter.validate_python(item.value)
    except ValidationError as error:
        if not isinstance(item.value, str) or item.typed:
            _refuse_value(item, field, error)
        refusal = error
    # A list, table or null can be written as JSON where there is only text.
    try:
        return adapter.validate_json(item.value)
    except ValidationError as error:
        # Of JSON it is told what is wrong inside; of other text, that it does not fit.
        is_json = all(one["type"] != "json_invalid" for one in error.errors())
        _refuse_value(item, field, error if is_json else refusal)


def _section(model: type[BaseModel], name: str, given: Mapping[str, _Given]) -> BaseModel:
    """The section from its defaults and what the sources gave."""
    section_model = section_model_of(name, model.model_fields[name])
    own = {key.partition(".")[2]: item for key, item in given.items() if key.startswith(name + ".")}
    values = defaults_of(model, name) | {key: item.value for key, item in own.items()}
    for key, field in section_model.model_fields.items():
        if key not in values:
            message = f"{name}.{key} ({type_name(field)}) has no default and no source gives it"
            raise ConfigError(message, remedy=f"set {name}.{key}, e.g. in birdstack.toml")
    try:
        return section_model.model_validate(values)
    except ValidationError as error:
        culprit = own.get(str(next(iter(error.errors()[0]["loc"]), "")))
        if culprit is not None:
            _refuse_value(culprit, section_model.model_fields[culprit.key.partition(".")[2]], error)
        _refuse_together(error, list(own.values()))


def _refuse_key(item: _Given, fields: Mapping[str, FieldInfo]) -> NoReturn:
    """Name the nearest key: one of the same name elsewhere, else one spelt alike."""
    sections = list(dict.fromkeys(key.partition(".")[0] for key in fields))
    section, _, name = item.key.partition(".")
    siblings = [key for key in fields if key.startswith(section + ".")]
    near = [key for key in fields if key.endswith("." + (name or section))]
    if siblings:
        what = f"setting {item.key!r}"
        alike = difflib.get_close_matches(name, [key.partition(".")[2] for key in siblings], n=1)
        near += [f"{section}.{one}" for one in alike]
    else:
        what = f"section {section!r}"
        near += difflib.get_close_matches(item.key, list(fields) if name else sections, n=1)
    listed = ", ".join(item.spelling(key) for key in near[:1] or siblings or sections)
    message = f"{item.source}: unknown {what}"
    raise ConfigError(message, remedy=f"{'write' if near else 'choose from'} {listed}")


def _refuse_value(item: _Given, field: FieldInfo, error: ValidationError) -> NoReturn:
    rule = " ".join(filter(None, (type_name(field), bounds(field))))
    message = f"{item.source}: {item.key} must be {rule}, got {item.value!r}: {_said(error)}"
    raise ConfigError(message, remedy=f"set {item.spelling(item.key)} to {rule}") from error


def _refuse_together(error: ValidationError, items: list[_Given]) -> NoReturn:
    """Each value fits by itself, and they do not fit each other."""
    listed = ", ".join(f"{item.key}={item.value!r} ({item.source})" for item in items)
    message = f"settings do not fit together: {_said(error)}; given: {listed or 'defaults only'}"
    raise ConfigError(message, remedy="change one of the settings named") from error


def _said(error: ValidationError) -> str:
    """What pydantic objects to, and where inside a value, without its links."""
    found = []
    for one in error.errors(include_url=False):
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in one["loc"])
        said = one["msg"].removeprefix("Value error, ")
        found.append(f"{place.removeprefix('.')}: {said}" if place else said)
    return "; ".join(dict.fromkeys(found))
