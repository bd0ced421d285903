# SPDX-License-Identifier: GPL-2.0-only
"""A saved run comes back with every term as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import z3

from harness.x86.memory import Memory
from harness.x86.registers import Lazy
from harness.x86.run import Run
from harness.x86.store import StoreError, load, save
from tests.x86.conftest import Execute

SHIPPED = ["multikernel", "multikernel_rfc"]


def assert_same(a: Any, b: Any, seen: set[tuple[int, int]], where: str = "run") -> None:
    """The two have the same structure, and structurally equal terms. `seen`: pairs known to be."""
    if (id(a), id(b)) in seen:
        return
    seen.add((id(a), id(b)))
    a = a.get() if isinstance(a, Lazy) else a
    assert type(a) is type(b), where
    if isinstance(a, z3.ExprRef):
        assert a.eq(b), where
    elif is_dataclass(a):
        for part in fields(a):
            if not part.name.startswith("_"):
                assert_same(
                    getattr(a, part.name), getattr(b, part.name), seen, f"{where}.{part.name}"
                )
    elif isinstance(a, Memory):
        for name in ("base", "image", "records"):
            assert_same(getattr(a, name), getattr(b, name), seen, f"{where}.{name}")
    elif isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], seen, f"{where}[{key!r}]")
    elif isinstance(a, tuple):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, seen, f"{where}[{number}]")
    else:
        assert isinstance(a, None | bool | int | float | str | bytes | frozenset | Enum), where
        assert a == b, where


@pytest.fixture(scope="module")
def small_run(shipped: Execute) -> Run:
    return shipped("multikernel_rfc")[1]


@pytest.mark.parametrize("base", [None, 0x8000])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_run_comes_back_as_it_was(
    name: str, base: int | None, shipped: Execute, tmp_path: Path
) -> None:
    _, run = shipped(name, base)
    path = tmp_path / "a.run"
    save(run, path)
    assert_same(run, load(path), set())
    assert path.stat().st_size < 1_000_000
    assert list(tmp_path.iterdir()) == [path]


def test_what_paths_share_is_shared_again(small_run: Run, tmp_path: Path) -> None:
    save(small_run, tmp_path / "a.run")
    first, second = load(tmp_path / "a.run").ends[:2]
    assert first.memory.image is second.memory.image


def test_a_loaded_run_saves_to_the_same_bytes(small_run: Run, tmp_path: Path) -> None:
    a, b = tmp_path / "a.run", tmp_path / "b.run"
    save(small_run, a)
    save(load(a), b)
    first, second = json.loads(a.read_text()), json.loads(b.read_text())
    assert first["objects"] == second["objects"]


def test_a_failed_save_leaves_the_old_file(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.run"
    save(small_run, path)
    before = path.read_bytes()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_room)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)"):
        save(small_run, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a saved run"),
        (b"[]", "not a saved run"),
        (b"7", "not a saved run"),
        (b"\xff\xfe\x00", "no text at all"),
        (b'{"format": "something else"}', "not in the format"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.run"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=problem) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        load(tmp_path / "no.run")


DAMAGE = {
    "cut off": lambda d: json.dumps(d)[:-100],
    "no terms": lambda d: json.dumps({k: v for k, v in d.items() if k != "smtlib"}),
    "not SMT-LIB": lambda d: json.dumps(d | {"smtlib": "(assert"}),
    "fewer terms": lambda d: json.dumps(d | {"smtlib": "(assert true)"}),
    "objects missing": lambda d: json.dumps(d | {"objects": d["objects"][:5]}),
    "unknown kind": lambda d: json.dumps(d | {"objects": [{"code": "x"}]}),
    "unknown record": lambda d: json.dumps(d | {"objects": [{"record": ["Path", {}]}]}),
    "the root is no run": lambda d: json.dumps(d | {"root": 1}),
    "objects are a number": lambda d: json.dumps(d | {"objects": 1}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused(damage: str, small_run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.run"
    save(small_run, path)
    path.write_text(DAMAGE[damage](json.loads(path.read_text())))
    with pytest.raises(StoreError, match="saved run"):
        load(path)
