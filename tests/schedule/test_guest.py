# SPDX-License-Identifier: GPL-2.0-only
"""What runs as host is the object that the processes were read off."""

from __future__ import annotations

from io import BytesIO

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from harness.schedule.build import build
from trampoline.host_object import HOST_FOLDER, load_host


@pytest.mark.parametrize("name", ["multikernel_rfc", "multikernel"])
def test_guest_holds_the_hosts_code_as_it_is_but_for_its_relocations(name: str) -> None:
    host = load_host(HOST_FOLDER / name)
    relocations = ELFFile(BytesIO(host.elf)).get_section_by_name(".rela.text")
    assert isinstance(relocations, RelocationSection)
    guest = build(host)
    ((start, data),) = guest.parts
    linked = bytearray(data[guest.text - start :][: len(host.text)])
    assert linked != host.text
    for relocation in relocations.iter_relocations():
        at = relocation["r_offset"]  # each is of 4 bytes: the code is for the lowest 2 GiB
        linked[at : at + 4] = host.text[at : at + 4]
    assert linked == host.text
