# SPDX-License-Identifier: GPL-2.0-only
"""How an image is built or read, and what is said of one that does not fit its contract."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

from tests.trampoline.conftest import Folder


def test_a_source_is_assembled(folder: Folder) -> None:
    folder.source()
    image = folder.load()
    assert image.data[:2] == b"\xfa\xf4"
    assert image.symbols["kernel_word"] == 8
    assert image.symbols["tables_end"] == len(image.data) == 0x2000
    assert image.lines == ((0, "small.S", 4), (1, "small.S", 5))


def test_an_object_gives_the_same_image_as_its_source(folder: Folder) -> None:
    folder.source()
    folder.object()
    from_source, from_object = folder.load(), folder.load('object = "small.o"')
    assert from_object.data == from_source.data
    assert from_object.symbols == from_source.symbols
    assert from_object.lines == ()


def test_a_32_bit_object_is_read(folder: Folder) -> None:
    folder.source()
    small = folder.path / "small.S"
    subprocess.run(["as", "--32", str(small), "-o", str(folder.path / "a.o")], check=True)
    assert folder.load('object = "a.o"').data == folder.load().data


def test_a_section_other_than_text_can_be_named(folder: Folder) -> None:
    folder.source(section=".boot")
    image = folder.load('source = "small.S"\nsection = ".boot"')
    assert len(image.data) == 0x2000


def test_symbols_bound_an_image_inside_a_section(folder: Folder) -> None:
    before = "\t.globl entry\n\t.skip 4096, 0x90\n"
    folder.source("\t.globl entry\n", before)
    image = folder.load('source = "small.S"\nsymbols = ["entry", "tables_end"]')
    assert image.data[:2] == b"\xfa\xf4"
    assert image.symbols["entry"] == 0
    assert image.symbols["tables_end"] == len(image.data) == 0x2000
    assert image.lines[0] == (0, "small.S", 5)


def test_symbols_find_an_image_in_an_executable(folder: Folder) -> None:
    folder.source(section=".data")
    folder.link("a.elf", "-Tdata=0x7654000", "-e", "0", folder.object())
    image = folder.load('object = "a.elf"\nsymbols = ["entry", "tables_end"]')
    assert image.data == folder.load('source = "small.S"\nsection = ".data"').data
    assert image.symbols["status"] == 24


def test_a_local_symbol_does_not_hide_a_global_one(folder: Folder) -> None:
    folder.source()
    other = folder.path / "other.S"
    other.write_text("\t.data\n\t.skip 16\nentry:\t.long 0\n", encoding="utf-8")
    subprocess.run(["gcc", "-c", str(other), "-o", str(folder.path / "other.o")], check=True)
    folder.link("both.o", "-r", folder.object(), folder.path / "other.o")
    assert folder.load('object = "both.o"').symbols["entry"] == 0


WRONG_SYMBOLS = [
    ("entry:	cli", "entree:	cli\n	.set entry, 7",
     "contract.toml: [entry] symbol: the image has no symbol entry; define it or name another."),
    ("entry:	cli", "	nop\nentry:	cli", "contract.toml: [entry] symbol: entry is at offset "
     "0x1 of the image; the CPU starts at offset 0, so the entry must be there."),
    ("kernel_word:	.quad 0", "	.quad 0", "contract.toml: [mailbox] kernel: the image has no "
     "symbol kernel_word; define it or name another."),
    ("kernel_word:	.quad 0", "	.long 0\nkernel_word:	.quad 0", "contract.toml: [mailbox] "
     "kernel: kernel_word is at offset 0xc; align it to 8 bytes."),
    ("boot_params_word:	.quad 0", "	.set boot_params_word, tables_end", "contract.toml: [mailbox] "
     "boot_params: boot_params_word has no room for 8 bytes before the image's end."),
    ("status:	.long 0", "", "contract.toml: [status] word: the image has no symbol status; "
     "define it or name another."),
    ("status:	.long 0", "	.set status, tables_end - 3", "contract.toml: [status] word: status "
     "has no room for 4 bytes before the image's end."),
    ("tables:	.skip 4096", "	.long 0\ntables:	.skip 4092", "contract.toml: [tables] start: "
     "tables is at offset 0x1004; align it to 4096 bytes."),
    ("status:	.long 0", "	.set status, tables", "contract.toml: [status] word: it lies in "
     "[tables] or [mailbox]; the host writes it late."),
    ("status:	.long 0", "	.set status, boot_params_word + 4", "contract.toml: [status] word: it "
     "lies in [tables] or [mailbox]; the host writes it late."),
    ("tables_end:", "	.set tables_end, tables", "contract.toml: [tables] end: tables_end is not "
     "behind tables."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG_SYMBOLS)
def test_a_symbol_that_does_not_fit_is_named_with_its_key(
    folder: Folder, old: str, new: str, sentence: str
) -> None:
    folder.source(old, new)
    assert folder.refusal() == sentence


SCRATCH = '[[scratch]]\nstart = "{start}"\n{rest}\nwhy = "A test."'

WRONG_SCRATCH = [
    (SCRATCH.format(start="tables", rest='end = "none"'), "contract.toml: [[scratch]] no. 1 end: "
     "the image has no symbol none; define it or name another."),
    (SCRATCH.format(start="tables", rest="size = 4097"), "contract.toml: [[scratch]] no. 1 size: "
     "the bytes 0x1000 to 0x2001 are not a range inside the image's 0x2000 bytes."),
    (SCRATCH.format(start="tables", rest="offset = 4096\nsize = 1"), "contract.toml: [[scratch]] "
     "no. 1 size: the bytes 0x2000 to 0x2001 are not a range inside the image's 0x2000 bytes."),
    (SCRATCH.format(start="tables", rest='end = "entry"'), "contract.toml: [[scratch]] no. 1 end: "
     "the bytes 0x1000 to 0x0 are not a range inside the image's 0x2000 bytes."),
]  # fmt: skip


@pytest.mark.parametrize(("scratch", "sentence"), WRONG_SCRATCH)
def test_scratch_bytes_outside_the_image_are_named(
    folder: Folder, scratch: str, sentence: str
) -> None:
    folder.source()
    assert folder.refusal(scratch=scratch) == sentence


STACK = '[stack]\nstart = "{start}"\nend = "{end}"'
FIRST_GDT = '[[gdt]]\nstart = "status"\nend = "tables"\n'
GDT = FIRST_GDT + '[[gdt]]\nstart = "{start}"\nend = "{end}"'

WRONG_PARTS = [
    (part.format(start=start, end=end), f"contract.toml: {key} {problem}")
    for part, key in ((STACK, "[stack]"), (GDT, "[[gdt]] no. 2"))
    for start, end, problem in (
        ("none", "tables", "start: the image has no symbol none; define it or name another."),
        ("status", "none", "end: the image has no symbol none; define it or name another."),
        ("tables", "status", "end: status is not behind tables."),
        ("status", "status", "end: status is not behind status."),
    )
]


@pytest.mark.parametrize(("part", "sentence"), WRONG_PARTS)
def test_a_stack_or_gdt_that_is_no_part_of_the_image_is_named(
    folder: Folder, part: str, sentence: str
) -> None:
    folder.source()
    assert folder.refusal(scratch=part) == sentence


@pytest.mark.parametrize("part", [STACK, GDT])
def test_a_stack_or_gdt_may_reach_to_the_images_end(folder: Folder, part: str) -> None:
    folder.source()
    assert folder.load(scratch=part.format(start="entry", end="tables_end"))


def test_scratch_bytes_up_to_the_end_of_the_image_are_allowed(folder: Folder) -> None:
    folder.source()
    folder.load(scratch=SCRATCH.format(start="tables", rest="offset = 4095\nsize = 1"))


def test_two_words_that_the_host_fills_in_share_no_byte(folder: Folder) -> None:
    folder.source("boot_params_word:	.quad 0", "	.set boot_params_word, kernel_word")
    assert folder.refusal() == (
        "contract.toml: [mailbox] boot_params: kernel_word and boot_params_word share bytes; "
        "give two words."
    )


def test_a_base_range_without_room_for_the_image_is_refused(folder: Folder) -> None:
    folder.source()
    folder.load(limit="0x3000")
    assert folder.refusal(limit="0x2000") == (
        "contract.toml: [base] limit: no base from lowest on keeps the image's 2 pages below it."
    )


def test_a_relocation_is_named_with_symbol_and_offset(folder: Folder) -> None:
    folder.source("status:	.long 0", "status:	.long elsewhere")
    assert folder.refusal() == (
        "small.S: a relocation against elsewhere is left at offset 0x18 of the image; "
        "use symbol differences, so that no address is needed at link time."
    )


def test_a_relocation_against_the_own_section_is_named(folder: Folder) -> None:
    folder.source("status:	.long 0", "status:	.long kernel_word")
    assert "a relocation against .text is left at offset 0x18" in folder.refusal()


def test_a_relocation_outside_the_bounding_symbols_does_no_harm(folder: Folder) -> None:
    folder.source("tables_end:\n", "tables_end:\n	.quad elsewhere\n")
    assert len(folder.load('source = "small.S"\nsymbols = ["entry", "tables_end"]').data) == 0x2000
    assert "against elsewhere" in folder.refusal()


def test_a_relocation_left_to_the_loader_of_an_executable_is_named(folder: Folder) -> None:
    folder.source("status:	.long 0", "status:	.quad kernel_word", section=".data")
    folder.link("a.so", "-shared", folder.object())
    sentence = folder.refusal('object = "a.so"\nsymbols = ["entry", "tables_end"]')
    assert sentence.startswith("a.so: a relocation without a symbol is left at offset 0x18 ")


def test_an_image_over_64_kib_is_refused(folder: Folder) -> None:
    folder.source("tables:	.skip 4096", "tables:	.skip 0xf000")
    assert len(folder.load().data) == 0x10000
    folder.source("tables:	.skip 4096", "tables:	.skip 0x10000")
    assert folder.refusal() == (
        "small.S: the image has 69632 bytes; real-mode code reaches 65536, so make it smaller or "
        "name its part with [image] symbols."
    )


def test_an_absent_section_is_named_with_those_present(folder: Folder) -> None:
    folder.source(section=".boot")
    sentence = folder.refusal('source = "small.S"\nsection = ".bot"')
    assert sentence == "small.S: has no section .bot; name one of: .text, .data, .bss, .boot."


def test_an_empty_section_is_refused(folder: Folder) -> None:
    folder.source(section=".boot")
    assert folder.refusal() == (
        "small.S: section .text is empty; name the part that holds the trampoline."
    )


def test_a_section_without_bytes_is_refused(folder: Folder) -> None:
    folder.source()
    with (folder.path / "small.S").open("a", encoding="utf-8") as source:
        source.write("	.bss\n	.skip 4096\n")
    assert folder.refusal('source = "small.S"\nsection = ".bss"') == (
        "small.S: section .bss holds no bytes in the file; put it into a section with contents."
    )


def test_bounding_symbols_must_exist_in_order_and_in_one_section(folder: Folder) -> None:
    folder.source()
    with (folder.path / "small.S").open("a", encoding="utf-8") as source:
        source.write("	.data\n	.skip 8192\nelsewhere:\n")

    def refusal(first: str, end: str) -> str:
        return folder.refusal(f'source = "small.S"\nsymbols = ["{first}", "{end}"]')

    assert refusal("none", "tables") == (
        "small.S: has no symbol none, which [image] symbols names; check its spelling."
    )
    behind = "is not behind entry; [image] symbols are first and end."
    assert refusal("tables", "entry") == (
        "small.S: entry is not behind tables; [image] symbols are first and end."
    )
    assert refusal("entry", "elsewhere") == f"small.S: elsewhere {behind}"
    assert refusal("entry", "entry") == f"small.S: entry {behind}"


def test_an_object_of_another_architecture_is_named(folder: Folder) -> None:
    folder.source()
    target = folder.object()
    elf = bytearray(target.read_bytes())
    struct.pack_into("<H", elf, 18, 183)  # e_machine := EM_AARCH64
    target.write_bytes(elf)
    assert folder.refusal('object = "small.o"') == (
        "small.o: made for EM_AARCH64, not for x86; give an object for EM_386 or EM_X86_64."
    )


@pytest.mark.parametrize("content", [b"", b"MZ not an ELF file", b"\x7fELF\x02\x01\x01"])
def test_a_file_that_is_no_elf_file_is_refused(folder: Folder, content: bytes) -> None:
    (folder.path / "small.o").write_bytes(content)
    assert folder.refusal('object = "small.o"').startswith("small.o: not a readable ELF file (")


def test_a_truncated_object_is_refused(folder: Folder) -> None:
    folder.source()
    target = folder.object()
    whole = target.read_bytes()
    for size in range(16, len(whole), 229):
        target.write_bytes(whole[:size])
        assert folder.refusal('object = "small.o"').startswith("small.o: ")


def test_a_missing_file_is_named(folder: Folder) -> None:
    assert folder.refusal() == (
        "small.S: no such file; name the assembly source in [image] source."
    )
    assert folder.refusal('object = "small.o"') == (
        "small.o: cannot be read (No such file or directory); name the ELF file in [image] object."
    )


def test_a_source_that_does_not_assemble_is_named_with_line_and_message(folder: Folder) -> None:
    folder.source("	hlt", "	halt")
    sentence = folder.refusal()
    assert sentence.startswith("small.S: does not assemble; mend this first: small.S:5: Error: ")
    assert "halt" in sentence


def test_a_warning_of_the_assembler_counts_as_a_mistake(folder: Folder) -> None:
    folder.source("status:	.long 0", "status:	.byte 300, 0, 0, 0")
    assert "small.S:9: Warning: " in folder.refusal()


def test_a_preprocessor_mistake_is_named(folder: Folder) -> None:
    folder.source("	hlt", '#include "none.h"')
    assert "small.S:5:10: fatal error: none.h" in folder.refusal()


@pytest.mark.parametrize(
    ("present", "sentence"),
    [
        ([], "small.S: cannot be assembled without gcc; install the package gcc."),
        (["gcc"], "small.S: cannot be assembled without as; install the package binutils."),
    ],
)
def test_a_missing_tool_is_named_with_its_package(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, present: list[str], sentence: str
) -> None:
    folder.source()
    tools = folder.path / "bin"
    tools.mkdir()
    for name in present:
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    assert folder.refusal() == sentence
