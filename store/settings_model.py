"""What a settings model says of itself: keys, types, defaults, bounds and descriptions.

Both the reference documentation and the error messages of `birdstack.store.config` are
written from here, so that the rule a message quotes is the rule the documentation states.
"""

from __future__ import annotations

import json
import re
import types
from inspect import cleandoc
from textwrap import dedent
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo


class SettingRow(NamedTuple):
    """One setting as documentation shows it; every value is text."""

    key: str
    type: str
    default: str
    range: str
    description: str


def settings_table(model: type[BaseModel]) -> list[SettingRow]:
    """One row per setting: key, type, default, range and description, in declared order.

    A description comes from `Field(description=...)`, else from the `Attributes` section
    of the section model's docstring.
    """
    rows = []
    for section, field in model.model_fields.items():
        section_model = section_model_of(section, field)
        said = _documented(section_model)
        defaults = defaults_of(model, section)
        for name, info in section_model.model_fields.items():
            default = _shown(defaults[name]) if name in defaults else "required"
            text = info.description or said.get(name, "")
            rows.append(
                SettingRow(f"{section}.{name}", type_name(info), default, bounds(info), text)
            )
    return rows


def settings_markdown(model: type[BaseModel]) -> str:
    """`settings_table` as a Markdown table."""
    lines = ["| Key | Type | Default | Range | Description |", "|---|---|---|---|---|"]
    for row in settings_table(model):
        cells = [f"`{row.key}`", row.type, f"`{row.default}`", row.range, row.description]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def section_model_of(name: str, field: FieldInfo) -> type[BaseModel]:
    """The model of a section.

    Raises:
        TypeError: the root model has a field that is no section.
    """
    section = field.annotation
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        message = f"section {name!r} of a settings model must be a pydantic model, got {section!r}"
        raise TypeError(message)
    return section


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Dotted key to field, over all sections."""
    return {
        f"{section}.{name}": info
        for section, field in model.model_fields.items()
        for name, info in section_model_of(section, field).model_fields.items()
    }


def defaults_of(model: type[BaseModel], section: str) -> dict[str, Any]:
    """Values a section has before any source speaks; required keys are absent."""
    field = model.model_fields[section]
    if not field.is_required():
        return dict(field.get_default(call_default_factory=True))
    return {
        name: info.get_default(call_default_factory=True)
        for name, info in section_model_of(section, field).model_fields.items()
        if not info.is_required()
    }


def type_name(field: FieldInfo) -> str:
    """The field's type as people read it, e.g. `one of masked, present`."""
    return _named(field.annotation)


def _named(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_named(part) for part in get_args(annotation))
    if annotation is type(None):
        return "null"
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (...,):
        return f"list of {_named(get_args(annotation)[0])}"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


_BOUNDS = (
    ("gt", "> {}"),
    ("ge", ">= {}"),
    ("lt", "< {}"),
    ("le", "<= {}"),
    ("multiple_of", "multiple of {}"),
    ("min_length", "length >= {}"),
    ("max_length", "length <= {}"),
    ("pattern", "matching {}"),
)


def bounds(field: FieldInfo) -> str:
    """The field's bounds, e.g. `>= 2, <= 100`."""
    found = [
        text.format(getattr(rule, name))
        for rule in field.metadata
        for name, text in _BOUNDS
        if getattr(rule, name, None) is not None
    ]
    return ", ".join(found)


def _shown(value: object) -> str:
    return json.dumps(TypeAdapter(Any).dump_python(value, mode="json"))


def _documented(model: type[BaseModel]) -> dict[str, str]:
    """Descriptions from the `Attributes:` section of a Google-style docstring."""
    _, _, section = cleandoc(model.__doc__ or "").partition("Attributes:\n")
    said: dict[str, str] = {}
    name = ""
    for line in dedent(section).splitlines():
        entry = re.match(r"(\w+)(?: \([^)]*\))?: (.*)", line)
        if entry:
            name = entry[1]
            said[name] = entry[2].strip()
        elif name and line.startswith(" "):
            said[name] += " " + line.strip()
        else:
            break  # a blank or outdented line ends the section
    return said
