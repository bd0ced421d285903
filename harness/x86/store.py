# SPDX-License-Identifier: GPL-2.0-only
"""A Run as one text file: its structure as JSON, all its terms as one SMT-LIB 2 script.

The script states `(= term_17 ...)` for every distinct term, all in one assertion, so that what
terms share is written once. What is loaded has the same terms, symbol by symbol.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import z3

from harness.x86.memory import EntryImage, Memory, RangeWrite, Write, stretches
from harness.x86.promise import HostTables
from harness.x86.registers import Lazy
from harness.x86.run import Access, Before, EndKind, FinalState, PathEnd, Run, TableLoad
from harness.x86.terms import Base
from models.cpuid import Features
from models.descriptors import Segment
from models.modes import Control, Mode
from trampoline.errors import UserError

FORMAT = "trampoline run, version 4"
_RECORDS: dict[str, type] = {
    record.__name__: record
    for record in (
        *(Run, PathEnd, FinalState, Access, TableLoad, Memory, Write, RangeWrite, EntryImage, Base),
        *(Features, Segment, Control, Before, HostTables),
    )
}
_ENUMS: dict[str, type[Enum]] = {"EndKind": EndKind, "Mode": Mode}


class StoreError(UserError):
    """A file that is not a saved run, or cannot be read or written."""


def save(run: Run, path: Path) -> None:
    """Write the run to `path`, which holds all of it or is not touched. Raises StoreError."""
    writer = _Writer()
    root = writer.encode(run)
    document = {
        "format": FORMAT,
        "root": root,
        "objects": writer.objects,
        "smtlib": _script(writer.terms.values()),
    }
    try:
        _replace(path, json.dumps(document, separators=(",", ":")))
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{path}: cannot be written ({reason}); name another file.") from error


def load(path: Path) -> Run:
    """The run that was saved to `path`. Raises StoreError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{path}: cannot be read ({reason}); name a saved run.") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: not a saved run, but no text at all; name one.") from error
    try:
        document = json.loads(text)
        known = document["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not a saved run; name one, or execute it anew.") from error
    if not known:
        raise StoreError(f"{path}: not in the format `{FORMAT}`; execute the trampoline anew.")
    try:
        reader = _Reader(_terms(document["smtlib"]))
        for item in document["objects"]:
            reader.objects.append(reader.decode(item))
        run = reader.decode(document["root"])
        if not isinstance(run, Run):
            raise TypeError("the root is no run")
    except (LookupError, TypeError, ValueError, AttributeError, z3.Z3Exception) as error:
        raise StoreError(f"{path}: a damaged saved run; execute the trampoline anew.") from error
    return run


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", text=True)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# --- terms


def _script(terms: Iterable[z3.ExprRef]) -> str:
    solver = z3.Solver()
    # Not `name == term`: for a number Python asks the right side first and z3 swaps the two.
    solver.add(
        z3.And([z3.Const(f"term_{n}", term.sort()).__eq__(term) for n, term in enumerate(terms)])
    )
    # The printer aligns deep nesting with blanks, more of them than of text.
    return re.sub(r"\s*\n\s*", "\n", solver.to_smt2())


def _terms(script: str) -> list[z3.ExprRef]:
    (assertion,) = z3.parse_smt2_string(script)
    return [equation.arg(1) for equation in assertion.children()]


# --- structure


def _parts(record: object) -> list[str]:
    if not is_dataclass(record):
        return ["base", "image", "records"]  # Memory
    return [part.name for part in fields(record) if part.init]


class _Writer:
    """Every object but plain values becomes an item of `objects`, once; operands come first."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.terms: dict[int, z3.ExprRef] = {}
        self._terms: dict[int, int] = {}
        self._done: dict[int, tuple[object, Any]] = {}

    def encode(self, value: Any) -> Any:
        """The value in JSON: itself if it is plain, else {kind: ...}."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Lazy):
            return self.encode(value.get())
        if isinstance(value, z3.ExprRef):
            key = value.get_id()
            self.terms.setdefault(key, value)
            return {"term": self._terms.setdefault(key, len(self._terms))}
        if isinstance(value, Enum):
            return {"enum": [type(value).__name__, value.name]}
        if id(value) not in self._done:
            self.objects.append(self._composite(value))
            self._done[id(value)] = (value, {"object": len(self.objects) - 1})
        return self._done[id(value)][1]

    def _composite(self, value: Any) -> Any:
        name = type(value).__name__
        if name in _RECORDS:
            return {"record": [name, {p: self.encode(getattr(value, p)) for p in _parts(value)}]}
        if isinstance(value, tuple):
            return {"tuple": [self.encode(item) for item in value]}
        if isinstance(value, Mapping):
            return {"dict": [[self.encode(key), self.encode(v)] for key, v in value.items()]}
        if isinstance(value, bytes):
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, frozenset):
            return {"set": [[part.start, part.stop] for part in stretches(value)]}
        raise TypeError(f"{name} is no part of a run")


class _Reader:
    """The inverse of `_Writer`."""

    def __init__(self, terms: list[z3.ExprRef]) -> None:
        self.terms = terms
        self.objects: list[Any] = []

    def decode(self, item: Any) -> Any:
        """The value that `item` stands for; what it refers to is decoded already."""
        if not isinstance(item, dict):
            return item
        ((kind, content),) = item.items()
        return self._KINDS[kind](self, content)

    def _record(self, content: Any) -> Any:
        name, parts = content
        return _RECORDS[name](**{part: self.decode(item) for part, item in parts.items()})

    _KINDS: dict[str, Callable[[_Reader, Any], Any]] = {  # noqa: RUF012 (a constant)
        "object": lambda self, number: self.objects[number],
        "term": lambda self, number: self.terms[number],
        "enum": lambda self, content: _ENUMS[content[0]][content[1]],
        "record": _record,
        "tuple": lambda self, items: tuple(self.decode(item) for item in items),
        "dict": lambda self, items: {self.decode(k): self.decode(v) for k, v in items},
        "bytes": lambda self, text: base64.b64decode(text, validate=True),
        "set": lambda self, ranges: frozenset(n for pair in ranges for n in range(*pair)),
    }
