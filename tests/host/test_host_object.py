# SPDX-License-Identifier: GPL-2.0-only
"""What a host must be, and what is said of one that is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.conftest import Change
from trampoline.host_object import HOST_FOLDER, HostError, HostObject, load_host, read_host


def test_both_hosts_need_only_their_platform(rfc: HostObject, hardened: HostObject) -> None:
    header = (HOST_FOLDER / "include" / "platform.h").read_text()
    for host in (rfc, hardened):
        assert all(f"{name}(" in header for name in host.platform)
    assert hardened.platform - rfc.platform == {"reserved_for_kernels", "used_by_host"}


def test_constants_and_layouts_are_those_of_the_headers(hardened: HostObject) -> None:
    assert hardened.constants["STATUS_STARTED"] == 0xA5A5_A5A5
    assert hardened.constants["EBUSY"] == 16
    segment = hardened.structs["segment"]
    assert (segment.size, segment.members["memsz"]) == (32, (24, 8))
    assert hardened.structs["host"].members["taken"][1] == 255


def test_lines_name_every_source(hardened: HostObject) -> None:
    files = {file for _, file, _ in hardened.lines}
    assert {"setup.c", "load.c", "kick.c", "segment.c"} <= files


def test_a_missing_function_is_named(changed: Change) -> None:
    with pytest.raises(HostError, match=r"has no function multikernel_wait; host\.h says"):
        changed(
            *("multikernel_rfc", "multikernel_rfc/kick.c"),
            *(
                "int multikernel_wait(struct host",
                "int other(struct host *);\nint other(struct host",
            ),
        )


def test_a_mistake_in_the_source_is_quoted(changed: Change) -> None:
    with pytest.raises(HostError, match=r"does not compile; mend this first: .*apic"):
        changed("multikernel", "multikernel/kick.c", "u32 apic_id;\n\tint error;", "int error;")


@pytest.mark.parametrize("value", ["", " = 1"], ids=["zero", "not zero"])
def test_a_variable_of_the_hosts_own_is_refused(changed: Change, value: str) -> None:
    """It would outlast a call where no proof looks for it."""
    head = "int multikernel_wait(struct host *host)\n{\n"
    with pytest.raises(HostError, match="has variables of its own"):
        changed(
            *("multikernel", "multikernel/kick.c", head),
            f"static volatile int calls{value};\n\n{head}\tcalls++;\n",
        )


def test_a_folder_without_sources_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="holds no C source"):
        load_host(tmp_path)


def test_an_object_without_debug_information_is_refused(tmp_path: Path, rfc: HostObject) -> None:
    full, bare = tmp_path / "full.o", tmp_path / "bare.o"
    full.write_bytes(rfc.elf)
    assert shutil.which("objcopy")
    subprocess.run(["objcopy", "--strip-debug", full, bare], check=True)
    assert read_host(full, HOST_FOLDER / "multikernel_rfc").functions == rfc.functions
    with pytest.raises(HostError, match="no debug information; compile it with -g"):
        read_host(bare, HOST_FOLDER / "multikernel_rfc")


def test_a_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.o"
    path.write_text("not an object")
    with pytest.raises(HostError, match="not a readable ELF file"):
        read_host(path, HOST_FOLDER / "multikernel")
    with pytest.raises(HostError, match="cannot be read"):
        read_host(tmp_path / "absent.o", HOST_FOLDER / "multikernel")
