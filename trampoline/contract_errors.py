# SPDX-License-Identifier: GPL-2.0-only
"""From a pydantic validation error to one sentence that names the key and what was expected."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_Location = tuple[int | str, ...]


def sentence_for(error: ValidationError, model: type[BaseModel]) -> str:
    """The sentence for the first mistake in `error`, found while validating `model`.

    An unknown key comes first: a misspelt key is also reported as missing under its right name.
    """
    mistakes = sorted(error.errors(), key=lambda m: m["type"] != "extra_forbidden")
    first = mistakes[0]
    location = first["loc"]
    match first["type"]:
        case "extra_forbidden":
            problem = _unknown_key(model, location)
        case "missing":
            problem = f"missing; give {_expected(model, location)}."
        case "value_error":
            problem = f"{first['msg'].removeprefix('Value error, ')}."
        case _ if location[-1] == "[key]":
            problem = f"unknown claim; known: {_known_claims(first)}."
        case _:
            problem = f"{_shown(first['input'])} is wrong; give {_expected(model, location)}."
    more = f" ({len(mistakes) - 1} more after this one.)" if len(mistakes) > 1 else ""
    if not location and first["type"] == "value_error":
        return f"{problem}{more}"  # it names its keys itself
    return f"{_key_path(model, location)}: {problem}{more}"


def _key_path(model: type[BaseModel], location: _Location) -> str:
    """The place of a key as it looks in the file: `[mailbox] kernel`, `[[scratch]] no. 2 end`."""
    if not location:
        return "the contract"
    names = [part for part in location if part != "[key]"]
    match names:
        case ["entry", 0, *rest]:
            shown, keys = "[entry]", rest
        case [
            ("entry" | "word" | "gdt" | "pointer" | "scratch" | "area" | "patched") as table,
            int(k),
            *rest,
        ]:
            shown, keys = f"[[{table}]] no. {k + 1}", rest
        case ["expected", str(claim), *rest]:
            shown, keys = f"[expected.{claim}]", rest
        case [str(table), str(key), *rest]:
            shown, keys = f"[{table}]", [key, *rest]
        case _:
            field = _field_at(model, location)
            is_table = field is not None and _model_in(field.annotation) is not None
            shown, keys = f"[{names[0]}]" if is_table else str(names[0]), []
    return shown + "".join(f" item {k + 1}" if isinstance(k, int) else f" {k}" for k in keys)


def _field_at(model: type[BaseModel], location: _Location) -> FieldInfo | None:
    """The deepest field on the way to `location`; list indices and claim names are passed over."""
    found: FieldInfo | None = None
    current: type[BaseModel] | None = model
    for part in location:
        if current is None or not isinstance(part, str):
            continue
        by_key = {info.alias or name: info for name, info in current.model_fields.items()}
        if part in by_key:
            found = by_key[part]
            current = _model_in(found.annotation)
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class inside an annotation such as `tuple[Scratch, ...]` or `Refused | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (model := _model_in(argument)) is not None:
            return model
    return None


def _expected(model: type[BaseModel], location: _Location) -> str:
    field = _field_at(model, location)
    return field.description if field is not None and field.description else "a table"


def _unknown_key(model: type[BaseModel], location: _Location) -> str:
    owner_field = _field_at(model, location[:-1])
    owner = _model_in(owner_field.annotation) if owner_field is not None else model
    fields = owner.model_fields if owner is not None else {}
    known = [info.alias or name for name, info in fields.items()]
    close = get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown key; {hint}known: {', '.join(known)}."


def _known_claims(mistake: Any) -> str:
    return str(mistake.get("ctx", {}).get("expected", ""))


def _shown(value: Any) -> str:
    """A value as the user may have written it, cut to fit in a sentence."""
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, int) and value >= 0x1000:
        text = f"{value:#x}"
    else:
        text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
