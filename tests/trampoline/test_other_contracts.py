# SPDX-License-Identifier: GPL-2.0-only
"""Mistakes in contracts with several entries, 64-bit ones, and the host's words and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from trampoline.contract import ContractError, load_contract

REAL = '[[entry]]\nsymbol = "begin"\n'
LONG = '[[entry]]\nsymbol = "begin"\nmode = "long64"\n'
FIXED = "[kernel]\naddress = 0x1000000\n"
WORD = '[[word]]\nsymbol = "{}"\nsize = 4\nmay = 0xFF\n'
WORDS = WORD.format("tr_cr4") + WORD.format("tr_efer")
MAP = '[map]\nroot = "root"\ncr4 = "tr_cr4"\nefer = "tr_efer"\n'
TABLES = '[tables]\nstart = "tables"\nend = "tables_end"\n'
BOOT_PARAMS = "[boot_params]\nsize = 0x1000\n"
STATUS = '[status]\nword = "status"\nstarted = 1\n'
HOST = '[host]\nsource = "host"\n'
AREA = '[[area]]\nname = "area"\naddress = 0x7000\nwhy = "A test."\n'


def contract(parts: str, limit: int = 0xA0000, image: str = 'source = "small.S"') -> str:
    return (
        'schema = 1\nname = "small"\nsummary = "A test."\ncpu = { maxphyaddr = [36, 52] }\n'
        f"base = {{ lowest = 0x1000, limit = {limit:#x} }}\nimage = {{ {image} }}\n{parts}"
    )


def sentence(folder: Path, text: str) -> str:
    path = folder / "contract.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError) as caught:
        load_contract(path)
    return str(caught.value).removeprefix(f"{path}: ")


KEPT = '[[scratch]]\nstart = "x"\nsize = 4\nkept = true\nwhy = "y"\n'
MISTAKES = [
    ("entry = []\n" + FIXED, "[entry]: missing; give the symbol of the first instruction."),
    (FIXED, "[entry]: missing; give where the CPU starts: a table, or a list of [[entry]] tables."),
    (FIXED + REAL + REAL, "[[entry]]: two entries have the same name; give each one of its own."),
    (FIXED + REAL + LONG.replace("begin", "x") + 'name = "begin"\n',
     "[[entry]]: two entries have the same name; give each one of its own."),
    (FIXED + REAL + REAL.replace("begin", "x") + 'after = "y"\n',
     "[[entry]] after: there is no entry y; known: begin, x."),
    (FIXED + REAL + 'after = "begin"\n',
     "[[entry]] after: one entry must be the first; remove its key after."),
    (FIXED + REAL + KEPT,
     "[[scratch]] kept: no [[entry]] is a start at begin after begin; add one."),
    (FIXED + REAL + 'protocol = "linux-64"\n', "[entry]: INIT and SIPI follow no other "
     "protocol; remove the key protocol."),
    (REAL, "[kernel]: missing; give where the kernel is entered, and its size."),
    (FIXED + 'symbol = "done"\n' + REAL,
     "[kernel]: give exactly one of [mailbox] kernel, address and symbol."),
    (FIXED + '[mailbox]\nkernel = "kernel"\n' + REAL,
     "[kernel]: give exactly one of [mailbox] kernel, address and symbol."),
    (FIXED + '[mailbox]\nboot_params = "word"\n' + REAL,
     "[boot_params]: missing, though [mailbox] names its address."),
    (FIXED + BOOT_PARAMS + LONG,
     "[boot_params]: give exactly one of [mailbox] boot_params and register."),
    (FIXED + '[mailbox]\nboot_params = "word"\n' + BOOT_PARAMS + 'register = "rsi"\n' + LONG,
     "[boot_params]: give exactly one of [mailbox] boot_params and register."),
    (FIXED + BOOT_PARAMS + 'register = "rsi"\n' + REAL,
     "[boot_params] register: after INIT and SIPI no register holds an address."),
    (FIXED + BOOT_PARAMS + 'register = "rdi"\n' + LONG,
     '[boot_params] register: "rdi" is wrong; give "rsi" if a 64-bit entry finds its address '
     "there."),
    (FIXED + MAP + LONG, "[map]: cr4 and efer must be symbols of [[word]] tables."),
    (FIXED + MAP + WORD.format("tr_cr4") + LONG,
     "[map]: cr4 and efer must be symbols of [[word]] tables."),
    (FIXED + MAP + WORDS + TABLES + LONG,
     "[map]: the host makes the tables, or the image does; remove [map] or [tables]."),
    (FIXED + "[stack]\nbelow_rsp = 8\n" + REAL + LONG.replace("begin", "x"),
     "[stack] below_rsp: after INIT and SIPI, RSP points to no stack."),
    (FIXED + "[stack]\nbelow_rsp = 0x1001\n" + LONG,
     "[stack] below_rsp: 0x1001 is wrong; give a number of bytes, at most a page."),
    ('parks = ["no-long-mode"]\n' + FIXED + STATUS + REAL,
     "parks: a status word says why a CPU parks; remove parks or [status]."),
    ('parks = ["tired"]\n' + FIXED + REAL, 'parks: "tired" is wrong; give for what a CPU '
     'may park without a word, known: "no-long-mode".'),
    (FIXED + HOST + REAL, "[host]: needs [status], [tables] and both words of [mailbox]."),
    (FIXED + HOST + STATUS + TABLES + REAL,
     "[host]: needs [status], [tables] and both words of [mailbox]."),
    (FIXED + REAL + '[expected.entries_agree]\nverdict = "PROVED"\n',
     "[expected.entries_agree]: the contract has not the parts that the claim speaks of."),
    (FIXED + WORD.format("x").replace("4", "2") + REAL,
     "[[word]] no. 1 size: 2 is wrong; give its size in bytes: 4 or 8."),
    (FIXED + WORD.format("x") + "must = 0x100\n" + REAL,
     "[[word]] no. 1: may must have all bits of must."),
    (FIXED + WORD.format("x").replace("0xFF", "0x100000000") + REAL,
     "[[word]] no. 1: may has more bits than a word of 4 bytes."),
    (FIXED + WORD.format("x") + 'register = "cr0"\n' + REAL, '[[word]] no. 1 register: "cr0" is '
     'wrong; give the register that it is for, "cr4" or "efer": the CPU has what it '
     "sets beside the bits of must."),
    (FIXED + AREA + REAL, "[[area]] no. 1: give exactly one of the keys size and copy_of."),
    (FIXED + AREA + 'size = 8\ncopy_of = ["a", "b"]\n' + REAL,
     "[[area]] no. 1: give exactly one of the keys size and copy_of."),
    (FIXED + AREA.replace("0x7000", "0x800000000000") + "size = 8\n" + REAL,
     "[[area]] no. 1 address: 0x800000000000 is wrong; give its physical address."),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "expected"), MISTAKES)
def test_a_mistake_is_named_with_its_key_and_what_was_expected(
    parts: str, expected: str, tmp_path: Path
) -> None:
    assert sentence(tmp_path, contract(parts)) == expected


def test_only_a_real_mode_entry_is_bound_to_the_first_mib(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(contract(FIXED + LONG, limit=1 << 47), encoding="utf-8")
    assert load_contract(path).base.limit == 1 << 47
    wrong = "[base] limit: a CPU starts in real mode below 0x100000; give no higher limit."
    assert sentence(tmp_path, contract(FIXED + LONG + REAL.replace("begin", "x"), 1 << 47)) == wrong
    beyond = sentence(tmp_path, contract(FIXED + LONG, limit=(1 << 47) + 0x1000))
    assert beyond.startswith("[base] limit: 0x800000001000 is wrong; give ")


@pytest.mark.parametrize(
    "image",
    [
        'source = "a.S", carrier = "c.S"',
        'object = "a.o", carrier = "c.S", symbols = ["a", "b"]',
    ],
)
def test_a_carrier_carries_a_source_between_symbols(image: str, tmp_path: Path) -> None:
    found = sentence(tmp_path, contract(FIXED + REAL, image=image))
    assert found == "[image]: a carrier needs the keys source and symbols."


def test_the_claims_follow_from_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"

    def claims(parts: str) -> set[str]:
        path.write_text(contract(parts), encoding="utf-8")
        return set(load_contract(path).claims)

    second = LONG.replace("begin", "x")
    least = claims(FIXED + LONG)
    assert claims(FIXED + LONG + second) - least == {"entries_agree"}
    assert claims(FIXED + LONG + second + 'after = "begin"\n') - least == {"once"}
    assert "table_switch" in least and "table_switch" not in claims(FIXED + REAL)
    assert "table_switch" not in claims(FIXED + MAP + WORDS + LONG)
    for_register = WORD.format("x") + 'register = "efer"\n'
    assert claims(FIXED + for_register + LONG) - least == {"skip_is_safe"}
