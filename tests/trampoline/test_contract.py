# SPDX-License-Identifier: GPL-2.0-only
"""What a wrong contract is told: one sentence with file, key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from trampoline.contract import ContractError, load_contract

SHIPPED = Path("trampoline/multikernel/contract.toml")


def load_edited(tmp_path: Path, old: str, new: str) -> str:
    """Load the shipped contract with `old` replaced by `new`; returns the error's sentence."""
    text = SHIPPED.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path = tmp_path / "contract.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


KERNEL_KEY = 'kernel = "kernel_phys_addr"'
STATUS_SCRATCH = 'start = "trampoline_status_bsp"\nsize = 4'
HANDSHAKE = "handshake = { offered = 0x10000000, running = 0xB0000001, free = 0 }"
REFUSED = "refused = { kernel = 0xE0000001, boot_params = 0xE0000002, cpu = 0xE0000003 }"
STACK_START = '[stack]\nstart = "trampoline_stack_bsp"\n'
STACK = STACK_START + 'end = "trampoline_stack_bsp_end"\n'
SECOND_GDT_END = 'end = "gdt_bsp_64_end"\n'
CPU = "maxphyaddr = [36, 52]"
FIRST_EXPECTED = '[expected.paths]\nverdict = "PROVED"'

MISTAKES = [
    (KERNEL_KEY, "", "[kernel]: give exactly one of [mailbox] kernel, address and symbol."),
    (KERNEL_KEY, 'kernal = "kernel_phys_addr"', "[mailbox] kernal: unknown key; did you mean "
     "kernel? known: kernel, boot_params."),
    (KERNEL_KEY, "kernel = 7", "[mailbox] kernel: 7 is wrong; give the symbol of the word that "
     "holds the kernel's physical address."),
    (KERNEL_KEY, 'kernel = "kernel phys"', '[mailbox] kernel: "kernel phys" is wrong; give the '
     "symbol of the word that holds the kernel's physical address."),
    ("schema = 1", "schema = 2", "schema: 2 is wrong; give 1, the version of this schema."),
    ("schema = 1", "", "schema: missing; give 1, the version of this schema."),
    ("schema = 1", "schema = 1\nbanana = 3", "banana: unknown key; known: schema, name, summary, "
     "image, entry, base, mailbox, word, map, tables, stack, gdt, pointer, scratch, area, patched, "
     "status, lock, parks, hand_off, kernel, boot_params, cpu, host, expected."),
    ('name = "multikernel"', 'name = "a b"', 'name: "a b" is wrong; give the trampoline\'s name: '
     "letters, digits, _ and -."),
    ('source = "trampoline.S"', 'source = "a.S"\nobject = "a.o"',
     "[image]: give exactly one of the keys source and object."),
    ('source = "trampoline.S"', "", "[image]: give exactly one of the keys source and object."),
    ('source = "trampoline.S"', 'source = "a.S"\nsection = ".x"\nsymbols = ["a", "b"]',
     "[image]: give only one of the keys section and symbols."),
    ('source = "trampoline.S"', 'source = "a.S"\nsymbols = ["a"]', "[image] symbols item 2: "
     "missing; give the image's first and end symbol, as [\"first\", \"end\"]."),
    ("assume = []", 'assume = ["warm"]', '[entry] assume item 1: "warm" is wrong; give a list of '
     'entry assumptions, known: "upper-halves-zero".'),
    (CPU, CPU + '\nassume = "long-mode"', '[cpu] assume: "long-mode" is wrong; give '
     'a list of CPU assumptions, known: "long-mode".'),
    (STACK, "[stack]\n", "[stack]: give start and end, or below_rsp."),
    (STACK, STACK_START, "[stack]: give start and end, or below_rsp."),
    (STACK, STACK + "below_rsp = 8\n", "[stack]: give start and end, or below_rsp."),
    (STACK, "[stack]\nbelow_rsp = 8\n", "[stack] below_rsp: after INIT and SIPI, RSP points to no "
     "stack."),
    (STACK, STACK_START + "size = 0x1000\n", "[stack] size: unknown key; known: start, end, "
     "below_rsp."),
    (STACK, STACK_START + "end = 0x1000\n", "[stack] end: 0x1000 is wrong; give the symbol behind "
     "the stack's highest byte."),
    ("lowest = 0x1000", "lowest = 0x1001", "[base] lowest: 0x1001 is wrong; give the lowest base: "
     "a multiple of 0x1000."),
    ("lowest = 0x1000", "lowest = true", "[base] lowest: True is wrong; give the lowest base: "
     "a multiple of 0x1000."),
    ("limit = 0xA0000", "limit = 0xA0001", "[base] limit: 0xa0001 is wrong; give the first byte "
     "that the image must not reach: a multiple of 0x1000, up to 0x100000 for an image with a "
     "real-mode entry."),
    ("limit = 0xA0000", "limit = 0x101000", "[base] limit: a CPU starts in real mode below "
     "0x100000; give no higher limit."),
    ("lowest = 0x1000", "lowest = 0xA0000", "[base]: lowest must be below limit."),
    (STATUS_SCRATCH, 'start = "trampoline_status_bsp"',
     "[[scratch]] no. 1: give exactly one of the keys end and size."),
    (STATUS_SCRATCH, STATUS_SCRATCH + '\nend = "x"',
     "[[scratch]] no. 1: give exactly one of the keys end and size."),
    (STATUS_SCRATCH, 'start = "trampoline_status_bsp"\nsize = 0', "[[scratch]] no. 1 size: 0 is "
     "wrong; give the number of bytes, at least 1."),
    ("started = 0xA5A5A5A5", "started = 0x1A5A5A5A5", "[status] started: 0x1a5a5a5a5 is wrong; "
     'give the 32-bit value that says "the CPU runs".'),
    (SECOND_GDT_END, "", "[[gdt]] no. 2 end: missing; give the symbol behind the table's last "
     "byte."),
    (SECOND_GDT_END, "end = 7\n", "[[gdt]] no. 2 end: 7 is wrong; give the symbol behind the "
     "table's last byte."),
    (SECOND_GDT_END, SECOND_GDT_END + "size = 8\n", "[[gdt]] no. 2 size: unknown key; known: "
     "start, end."),
    (REFUSED, "refused = { kernel = 1 }", "[status] refused boot_params: missing; give the "
     "32-bit value for a refused boot_params address."),
    (REFUSED, "refused = { kernel = 1, boot_params = 2, cpu = true }", "[status] refused cpu: True "
     "is wrong; give the 32-bit value for a CPU without long mode."),
    (REFUSED, "refused = { kernel = 1, boot_params = 2, disk = 3 }", "[status] refused disk: "
     "unknown key; known: kernel, boot_params, cpu."),
    (HANDSHAKE, HANDSHAKE.replace(", running = 0xB0000001", ""), "[status] handshake running: "
     "missing; give the 32-bit value that says \"the CPU jumps to the kernel\"."),
    (HANDSHAKE, HANDSHAKE.replace("0x10000000", "0x10000001"), "[status] handshake offered: "
     "0x10000001 is wrong; give the 32-bit value, its low 8 bits 0, to which the APIC id of the "
     "CPU that may start is added."),
    (HANDSHAKE, HANDSHAKE.replace("0xB0000001", "0x100000FF"), "[status]: started and the values "
     "in refused and handshake must differ."),
    *((REFUSED, f"refused = {{ kernel = 1, {others} }}",
       "[status]: started and the values in refused and handshake must differ.")
      for others in ("boot_params = 1", "boot_params = 2, cpu = 1", "boot_params = 2, cpu = 2",
                     "boot_params = 2, cpu = 0xA5A5A5A5", "boot_params = 0xA5A5A5A5")),
    ("size_max = 0x40000000", "size_max = 0", "[kernel] size_max: 0 is wrong; give the largest "
     "kernel in bytes: 1 to 0xFFFFFFFF."),
    ("maxphyaddr = [36, 52]", "maxphyaddr = [32, 52]", "[cpu] maxphyaddr item 1: 32 is wrong; "
     "give the range of MAXPHYADDR in bits, as [lowest, highest] within 36..52."),
    ("maxphyaddr = [36, 52]", "maxphyaddr = [52, 36]",
     "[cpu]: maxphyaddr must name the lowest value first."),
    ('source = "../host/multikernel"', "", "[host] source: missing; give the path of the folder "
     "with the host's C sources."),
    (HANDSHAKE, HANDSHAKE.replace("free = 0 ", "free = 0xA5A5A5A5 "), "[status]: started and the "
     "values in refused and handshake must differ."),
    (FIRST_EXPECTED, '[expected.paths]\nverdict = "REFUTED"',
     "[expected.paths]: a REFUTED verdict needs the key finding."),
    (FIRST_EXPECTED, FIRST_EXPECTED + '\nfinding = "MKRFC-1"',
     "[expected.paths]: a PROVED verdict has no finding; remove the key."),
    (FIRST_EXPECTED, FIRST_EXPECTED + '\ncause = "0123456789abcdef"',
     "[expected.paths]: a PROVED verdict has no cause; remove the key."),
    (FIRST_EXPECTED, '[expected.paths]\nverdict = "MAYBE"', '[expected.paths] verdict: "MAYBE" is '
     'wrong; give "PROVED" or "REFUTED".'),
    ("[expected.paths]", "[expected.path]", "[expected.path]: unknown claim; known: 'paths', "
     "'hand_off', 'kernel_identity_map', 'boot_params_identity_map', 'image_identity_map', "
     "'no_stale_translation', 'no_fault', 'footprint', 'untouched', 'stack', 'code', 'determined', "
     "'descriptor_tables', 'status_word', 'table_switch', 'entries_agree', 'skip_is_safe', "
     "'once', 'one_at_a_time', 'no_false_start', 'no_lost_start', 'own_mail', "
     "'own_tables', 'honest_verdict', 'progress', 'load' or 'kick'."),
    (FIRST_EXPECTED, '[expected.once]\nverdict = "PROVED"\n' + FIRST_EXPECTED, "[expected.once]: "
     "the contract has not the parts that the claim speaks of."),
    (FIRST_EXPECTED, FIRST_EXPECTED + '\nevidence = "SEEN"', '[expected.paths] evidence: "SEEN" is '
     'wrong; give what the replay of a refutation gives: "CONFIRMED" or "NOT REPLAYABLE".'),
    ("[mailbox]", "[letterbox]", "letterbox: unknown key; known: schema, name, summary, "
     "image, entry, base, mailbox, word, map, tables, stack, gdt, pointer, scratch, area, patched, "
     "status, lock, parks, hand_off, kernel, boot_params, cpu, host, expected."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), MISTAKES)
def test_a_mistake_is_named_with_its_key_and_what_was_expected(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert load_edited(tmp_path, old, new) == sentence


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path: Path) -> None:
    sentence = load_edited(tmp_path, "schema = 1", "schema 1")
    assert sentence.startswith("not valid TOML: ")
    assert "line 2" in sentence


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    assert str(caught.value) == (
        f"{path}: cannot be read (No such file or directory); give the path of a contract.toml."
    )


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_bytes(b"schema = 1 # \xff")
    with pytest.raises(ContractError, match=r"not UTF-8 text \(byte 13\)"):
        load_contract(path)


def test_the_shipped_contracts_assume_nothing_of_registers_and_cpu() -> None:
    rfc = load_contract(Path("trampoline/multikernel_rfc/contract.toml"))
    hardened = load_contract(SHIPPED)
    assert rfc.shared.status.refused is None
    assert hardened.shared.status.refused is not None
    assert hardened.shared.status.refused.values == (0xE0000001, 0xE0000002, 0xE0000003)
    for contract in (rfc, hardened):
        assert not contract.entry[0].assume and not contract.cpu.assume
        assert contract.cpu.maxphyaddr == (36, 52)
        assert (contract.base.lowest, contract.base.limit) == (0x1000, 0xA0000)
        assert contract.stack is not None
        assert contract.stack.start == "trampoline_stack_bsp"
        assert [gdt.start for gdt in contract.gdt] == ["tgdt_bsp", "gdt_bsp_64"]


def test_every_claim_has_a_golden_verdict_in_both_shipped_contracts() -> None:
    """On one all are PROVED, on the other the findings stand."""
    rfc = load_contract(Path("trampoline/multikernel_rfc/contract.toml"))
    hardened = load_contract(SHIPPED)
    assert set(rfc.expected) == set(hardened.expected) == set(hardened.claims)
    assert {expected.verdict for expected in hardened.expected.values()} == {"PROVED"}
    refuted = [expected for expected in rfc.expected.values() if expected.verdict == "REFUTED"]
    assert {expected.finding for expected in refuted} == {f"MKRFC-{n}" for n in range(1, 20)}
    assert {claim for claim, expected in rfc.expected.items() if expected.verdict == "PROVED"} == {
        "paths", "code", "status_word",
    }  # fmt: skip


def test_a_contract_without_optional_parts_loads(tmp_path: Path) -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    head, rest = text.split("[stack]", 1)
    status = rest[rest.index("[status]") : rest.index("[expected.paths]")]
    path = tmp_path / "contract.toml"
    path.write_text(head + status.replace(REFUSED, ""), encoding="utf-8")
    contract = load_contract(path)
    assert contract.stack is None
    assert not contract.gdt and not contract.scratch
    assert contract.expected == {}
    assert contract.path == path


def test_a_refutation_is_replayed_unless_the_contract_says_that_it_cannot_be(
    tmp_path: Path,
) -> None:
    refuted = '[expected.paths]\nverdict = "REFUTED"\nfinding = "A-1"'
    text = SHIPPED.read_text(encoding="utf-8")
    path = tmp_path / "contract.toml"
    path.write_text(text.replace(FIRST_EXPECTED, refuted), encoding="utf-8")
    assert load_contract(path).expected["paths"].evidence == "CONFIRMED"
    unseen = f'{refuted}\nevidence = "NOT REPLAYABLE"'
    path.write_text(text.replace(FIRST_EXPECTED, unseen), encoding="utf-8")
    assert load_contract(path).expected["paths"].evidence == "NOT REPLAYABLE"
