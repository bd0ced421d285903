# SPDX-License-Identifier: GPL-2.0-only
"""The fingerprint changes with whatever may change a result, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reports import fingerprint as module
from reports.fingerprint import fingerprint


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    for name in ("harness/a.py", "trampoline/t/contract.toml", "reports/html.py", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("one")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "contract.toml").write_text("one")
    (root / "trampoline" / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root / "trampoline")
    monkeypatch.setattr(module, "ROOT", root)
    return root


def appended(root: Path) -> None:
    """What a file holds goes to the end of the one before it."""
    (root / "harness" / "a.py").write_text("oneharness/b.py\0two")
    (root / "harness" / "b.py").unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "harness" / "a.py").write_text("two"),
        lambda root: (root / "harness" / "new.py").touch(),
        lambda root: (root / "trampoline" / "linked" / "contract.toml").write_text("two"),
        lambda root: (root / "z3.py").touch(),
        lambda root: (root / "pytest.ini").touch(),
        appended,
    ],
)
def test_it_changes_with_each_file_that_may_change_a_result(
    project: Path, change: Callable[[Path], object]
) -> None:
    (project / "harness" / "b.py").write_text("two")
    before = fingerprint()
    change(project)
    assert fingerprint() != before


def test_it_does_not_change_with_how_a_result_is_shown(project: Path) -> None:
    before = fingerprint()
    (project / "reports" / "html.py").write_text("two")
    (project / "README.md").write_text("two")
    (project / "trampoline" / "t" / "survivors.toml").touch()
    assert fingerprint() == before
