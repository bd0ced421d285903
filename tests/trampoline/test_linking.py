# SPDX-License-Identifier: GPL-2.0-only
"""What the host fills in (fixups), and images that are linked and carried by another object."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.trampoline.conftest import Folder

FIXUPS = 'source = "small.S"\nfixups = "pa_"'
WORD = "\thlt"
"""A line of the source in whose place words are put."""


def fixups(folder: Folder, line: str) -> dict[int, int]:
    folder.source(WORD, line)
    return folder.load(FIXUPS).fixups


def wrong(folder: Folder, line: str, image: str = FIXUPS) -> str:
    folder.source(WORD, line)
    return folder.refusal(image)


def test_an_absolute_word_is_to_be_filled_in(folder: Folder) -> None:
    folder.source(WORD, "\t.long pa_status")
    image = folder.load(FIXUPS)
    assert image.fixups == {1: image.symbols["status"]}
    assert image.data[1:5] == bytes(4)


def test_an_operand_and_an_addend(folder: Folder) -> None:
    folder.source(WORD, "\t.code32\n\tmovl $pa_status + 2, %eax\n\tmovl %eax, pa_entry - 1")
    image = folder.load(FIXUPS)
    assert image.fixups == {2: image.symbols["status"] + 2, 7: -1}


def test_a_sign_extended_operand_of_64_bit_code(folder: Folder) -> None:
    assert fixups(folder, "\t.code64\n\tmovq $pa_entry, %rax") == {4: 0}


def test_without_relocations_nothing_is_to_be_filled_in(folder: Folder) -> None:
    assert fixups(folder, "\thlt") == {}


@pytest.mark.parametrize(
    "line",
    [
        "\t.quad pa_status",
        "\t.word pa_status",
        "\t.byte pa_status",
        "\t.long pa_status - .",
        "\t.code64\n\tmovl pa_status(%rip), %eax",
        "\t.code64\n\tcall pa_status",
    ],
)
def test_other_kinds_of_relocation_are_refused(line: str, folder: Folder) -> None:
    sentence = wrong(folder, line)
    assert sentence.startswith("small.S: pa_status at offset 0x")
    assert "is no 4-byte absolute address of an x86-64 object" in sentence


def test_a_symbol_that_the_image_does_not_have_is_named(folder: Folder) -> None:
    assert wrong(folder, "\t.long pa_none") == (
        "small.S: pa_none is to be filled in, but the image has no symbol none."
    )


@pytest.mark.parametrize("line", ["\t.long other", "\t.long va_status", "\t.quad entry"])
def test_relocations_without_the_prefix_are_refused(line: str, folder: Folder) -> None:
    assert "a relocation against " in wrong(folder, line)
    sentence = wrong(folder, "\t.long pa_status", 'source="small.S"')
    assert "a relocation against pa_status" in sentence


@pytest.mark.parametrize(
    "line",
    [
        "\t.globl pa_status\npa_status:\t.long 0\n\t.long pa_status",
        "pa_status:\t.long 0\n\t.long pa_status",
        "\t.set pa_status, 0x1000\n\t.long pa_status",
        "pa_status:\thlt",
    ],
    ids=["global", "local", "absolute", "not used"],
)
def test_a_symbol_that_is_also_the_name_of_an_address_is_refused(line: str, folder: Folder) -> None:
    assert wrong(folder, line) == (
        "small.S: defines pa_status, which by [image] fixups is the name of status's physical "
        "address; rename it, or choose another prefix."
    )


def test_the_prefix_alone_names_no_address(folder: Folder) -> None:
    folder.source(WORD, "pa_changed:\t.long pa_status")
    image = folder.load(FIXUPS)
    assert image.fixups == {image.symbols["pa_changed"]: image.symbols["status"]}


STATUS_4 = "status:\t.long 0"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("kernel_word:\t.quad 0", "kernel_word:\t.long pa_entry, 0", "[mailbox] kernel: {8}"),
        ("kernel_word:\t.quad 0", "kernel_word:\t.long 0, pa_entry", "[mailbox] kernel: {12}"),
        (STATUS_4, "status:\t.long pa_entry", "[status] word: {24}"),
        (STATUS_4, "status:\t.byte 0\n\t.long pa_entry", "[status] word: {25}"),
    ],
)
def test_an_address_in_a_word_of_the_hosts_is_refused(
    old: str, new: str, sentence: str, folder: Folder
) -> None:
    key, _, place = sentence.removesuffix("}").partition("{")
    folder.source(old, new)
    assert folder.refusal(FIXUPS) == (
        f"contract.toml: {key}[image] fixups fills in an address at {int(place):#x}, in its bytes."
    )


@pytest.mark.parametrize("new", ["\t.long pa_entry\nstatus:\t.long 0", f"{STATUS_4}, pa_entry"])
def test_an_address_beside_a_word_of_the_hosts_is_filled_in(new: str, folder: Folder) -> None:
    folder.source(STATUS_4, new)
    assert list(folder.load(FIXUPS).fixups.values()) == [0]


def test_the_image_of_a_32_bit_object_has_no_fixups(folder: Folder) -> None:
    folder.source(WORD, "\t.long pa_status")
    target = folder.path / "small.o"
    command = ["gcc", "-m32", "-c", str(folder.path / "small.S"), "-o", str(target)]
    subprocess.run(command, check=True)
    assert "of an x86-64 object" in folder.refusal('object = "small.o"\nfixups = "pa_"')


# --- carriers

CARRIED = 'source = "small.S"\ncarrier = "carrier.S"\nsymbols = ["first", "last"]'
CARRIER = '\t.section .data\nfirst:\n\t.incbin "trampoline.bin"\nlast:\n'


def carrier(folder: Folder, text: str = CARRIER, line: str = "\thlt") -> None:
    folder.source(WORD, line)
    (folder.path / "carrier.S").write_text(text, encoding="utf-8")


def test_the_image_is_what_lies_between_the_carriers_symbols(folder: Folder) -> None:
    carrier(folder)
    carried, plain = folder.load(CARRIED), folder.load()
    assert (carried.data, carried.lines) == (plain.data, plain.lines)
    assert carried.symbols == plain.symbols  # none of those that ld adds, such as _end


def test_addresses_count_from_the_begin_of_the_linked_image(folder: Folder) -> None:
    carrier(folder, line="\t.long status")
    image = folder.load(CARRIED)
    assert int.from_bytes(image.data[1:5], "little") == image.symbols["status"]


@pytest.mark.parametrize(
    "text",
    [
        CARRIER.replace("first:\n", "first:\n\t.byte 0\n"),
        CARRIER.replace("last:", "\t.balign 8192\n\t.byte 0\nlast:"),
        CARRIER.replace('"trampoline.bin"', '"trampoline.bin", 1'),
        CARRIER.replace("\t.incbin", "\t.byte 1\n#"),
    ],
)
def test_other_bytes_than_the_image_are_told(text: str, folder: Folder) -> None:
    carrier(folder, text)
    assert folder.refusal(CARRIED) == (
        "carrier.S: what it carries between its symbols is not small.S linked at address 0; "
        "include trampoline.bin between them, and nothing else."
    )


def test_a_source_that_cannot_be_linked_alone_is_told(folder: Folder) -> None:
    carrier(folder, line="\t.code32\n\tcall elsewhere")
    line = (folder.path / "small.S").read_text("utf-8").split("\n").index("\tcall elsewhere") + 1
    assert folder.refusal(CARRIED) == (
        "small.S: cannot be linked at address 0; mend this first: "
        f"small.S:{line}: undefined reference to `elsewhere'."
    )


def test_a_carrier_that_is_missing_or_has_no_such_symbols_is_named(folder: Folder) -> None:
    folder.source()
    assert "carrier.S: no such file" in folder.refusal(CARRIED)
    carrier(folder, CARRIER.replace("last:", "end:"))
    assert folder.refusal(CARRIED).startswith("carrier.S: has no symbol last")


@pytest.mark.parametrize(("missing", "others"), [("ld", ()), ("objcopy", ("ld",))])
def test_a_missing_linker_is_named_with_its_package(
    missing: str, others: tuple[str, ...], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier(folder)
    tools = folder.path / "bin"
    tools.mkdir()
    for name in ("gcc", "as", *others):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    assert folder.refusal(CARRIED) == (
        f"small.S: cannot be linked without {missing}; install the package binutils."
    )
