# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trampoline.host_object import HOST_FOLDER, HostObject, load_host

Change = Callable[[str, str, str, str], HostObject]


@pytest.fixture(scope="session")
def rfc() -> HostObject:
    return load_host(HOST_FOLDER / "multikernel_rfc")


@pytest.fixture(scope="session")
def hardened() -> HostObject:
    return load_host(HOST_FOLDER / "multikernel")


@pytest.fixture
def changed(tmp_path: Path) -> Change:
    """Compile a copy of a host in which one text of one file is replaced."""

    def compile_changed(name: str, file: str, old: str, new: str) -> HostObject:
        copy = tmp_path / "host"
        shutil.copytree(HOST_FOLDER, copy, dirs_exist_ok=True)
        source = copy / file
        text = source.read_text()
        assert text.count(old) == 1, f"{file} holds this {text.count(old)} times: {old}"
        source.write_text(text.replace(old, new))
        return load_host(copy / name)

    return compile_changed
