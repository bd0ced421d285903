# SPDX-License-Identifier: GPL-2.0-only
"""A mistake of the user ends the run in one sentence that says where it is and what to do."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from tests.proofs.conftest import Proofs
from tests.proofs.test_verdicts import ALL_SHAPES
from tests.proofs.variants import TINY, tiny
from trampoline.contract import ImageClaim, load_contract
from trampoline.image import load_image

E_MACHINE = 18  # offset in an ELF header
EM_AARCH64 = 183
RDTSC = b"\x0f\x31"
EXTERNAL = {"kernel_word:\n\t.quad\t0": "kernel_word:\n\t.quad\tsomewhere_else"}
LARGE = {"\t.skip\t4 * PAGE_SIZE": "\t.skip\t16 * PAGE_SIZE"}
NO_SUCH_INSTRUCTION = {"\tmovl\t%cr4, %eax": "\tmovl\t%cr4, %eax\n\tteleport\t%eax"}
OUTSIDE = {"limit = 0xA0000": "limit = 0x7000"}
CASES = {
    "wrong key": (None, {'kernel = "kernel_word"': 'kernle = "kernel_word"'}, ["kernle", "kernel"]),
    "wrong type": (None, {"size_max = 0x1000": 'size_max = "4 KiB"'}, ["[kernel] size_max"]),
    "missing symbol": (None, {'word = "status"': 'word = "state"'}, ["[status] word", "state"]),
    "relocation left": (EXTERNAL, None, ["tiny.S", "somewhere_else"]),
    "absent section": (None, {'"tiny.S"': '"tiny.S"\nsection = ".boot"'}, ["tiny.S", ".boot"]),
    "too large": (LARGE, None, ["tiny.S", "65536"]),
    "does not assemble": (NO_SUCH_INSTRUCTION, None, ["tiny.S", "teleport"]),
    "no room": (None, OUTSIDE, ["contract.toml", "[base] limit"]),
    "name taken": (None, {'name = "tiny"': 'name = "multikernel"'}, ["name", "multikernel"]),
}


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """All that was said, which must be one line, and no success."""
    assert done.returncode != 0
    said = (done.stdout + done.stderr).strip()
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named_in_one_sentence(proofs: Proofs, tmp_path: Path, case: str) -> None:
    source, contract, named = CASES[case]
    said = one_sentence(proofs(tiny(tmp_path, source, contract)))
    assert all(word in said for word in named), said


def test_an_object_of_another_architecture_is_refused(proofs: Proofs, tmp_path: Path) -> None:
    include = Path(__file__).resolve().parents[2] / "trampoline" / "include"
    thing = tmp_path / "tiny.o"
    command = ["gcc", "-c", "-m64", f"-I{include}", str(TINY / "tiny.S"), "-o", str(thing)]
    subprocess.run(command, check=True)
    data = bytearray(thing.read_bytes())
    struct.pack_into("<H", data, E_MACHINE, EM_AARCH64)
    thing.write_bytes(data)
    path = tiny(tmp_path, contract={'source = "tiny.S"': 'object = "tiny.o"'})
    said = one_sentence(proofs(path))
    assert "tiny.o" in said and "x86" in said


def test_an_uncovered_instruction_is_named_with_its_offset(proofs: Proofs, tmp_path: Path) -> None:
    path = tiny(tmp_path, {"\n\tmovl\t%cr4, %eax": "\n\trdtsc\n\tmovl\t%cr4, %eax"})
    done = proofs(path)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    verdicts = {row[0]: row[1] for row in rows if row[0] in get_args(ImageClaim)}
    assert verdicts == dict.fromkeys(ALL_SHAPES, "UNSUPPORTED")
    offset = load_image(load_contract(path)).data.index(RDTSC)
    assert f"image offset {offset:#x}" in done.stdout and "`rdtsc`" in done.stdout
