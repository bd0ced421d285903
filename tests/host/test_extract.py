# SPDX-License-Identifier: GPL-2.0-only
"""The host's process comes from the compiled code: change the code, and it is another process."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from capstone import CS_ARCH_X86, CS_MODE_64, Cs

from harness.host.extract import extract
from harness.host.minimise import minimise
from harness.host.refusal import Refusal
from harness.protocol.explore import Bounds, Explorer
from models.process import Edge, Kind, Location, Process
from tests.host.conftest import Change
from tests.protocol.pairs import HARDENED
from trampoline.contract import Contract, load_contract
from trampoline.host_object import HOST_FOLDER, HostObject, load_host

STARTED, RUNNING, GIVEN_UP, HELD = 0xA5A5_A5A5, 0xB000_0001, 0xD000_0001, 0x0EEE_EEEE
REFUSED = (0xE000_0001, 0xE000_0002, 0xE000_0003)


@cache
def contract_of(name: str) -> Contract:
    return load_contract(Path("trampoline") / name / "contract.toml")


@cache
def process_of(name: str) -> Process:
    return extract(load_host(HOST_FOLDER / name), contract_of(name))


def behaviour(process: Process) -> Process:
    """Without the places, which change with every line of source."""
    return replace(process, locations=tuple(replace(a, place="") for a in process.locations))


def rows(process: Process) -> list[str]:
    """One line for each location: what it does, and where it goes on."""

    def word(value: object) -> str:
        return f"{value:#x}" if isinstance(value, int) else str(value)

    lines = []
    for location in process.locations:
        action = [location.kind.value, location.word]
        if location.value is not None:
            action.append(word(location.value))
        if location.expected is not None:
            action.append(f"from {word(location.expected)}")
        edges = [
            str(edge.target)
            + (f" if {edge.when[0]} {' '.join(map(word, edge.when[1]))}" if edge.when else "")
            for edge in location.edges
        ]
        lines.append(" ".join(a for a in action if a) + " -> " + ", ".join(edges))
    return lines


def test_the_rfc_clears_the_word_after_the_kick_and_may_give_up_at_any_time() -> None:
    assert rows(process_of("multikernel_rfc")) == [
        "begin -> 1, 2",
        "conclude busy -> 3",
        "fence -> 1, 4, 5",  # the lock
        "return -> ",
        "conclude failed -> 3",
        "store kernel kernel -> 6",
        "store boot_params boot_params -> 7",
        "fence -> 8",
        "INIT -> 9, 10",
        "store status 0x0 -> 4",
        "SIPI -> 9, 11",
        "SIPI -> 12",
        "store status 0x0 -> 4, 13",
        "load status -> 13 if is not 0xa5a5a5a5, 14 if is not 0xa5a5a5a5, 15 if is 0xa5a5a5a5",
        "conclude not responding -> 3",
        "conclude started -> 3",
    ]


def test_the_hardened_host_follows_the_protocol() -> None:
    process = process_of("multikernel")
    status = [a for a in process.locations if a.word == "status"]
    assert not [a for a in status if a.kind is Kind.STORE], "locked instructions only"
    assert {(a.expected, a.value) for a in status if a.kind is Kind.COMPARE_EXCHANGE} == {
        ("offer", 0),
        ("offer", GIVEN_UP),
        (STARTED, GIVEN_UP),
    }
    assert {a.value for a in status if a.kind is Kind.EXCHANGE} == {HELD, "offer"}
    verdicts = {a.value for a in process.locations if a.kind is Kind.CONCLUDE}
    assert verdicts == {"running", "refused", "stuck", "not responding", "busy", "failed"}
    for location in process.locations:
        if location.kind is Kind.STORE and location.word == "boot_params":
            offer = process.locations[location.edges[0].target]
            assert (offer.kind, offer.value) == (Kind.EXCHANGE, "offer")


def test_only_the_word_itself_ends_the_wait_as_running_or_refused() -> None:
    process = process_of("multikernel")
    for location in process.locations:
        for edge in location.edges:
            after = process.locations[edge.target]
            if after.kind is Kind.CONCLUDE and after.value in ("running", "refused"):
                expected = (0, RUNNING) if after.value == "running" else REFUSED
                assert (location.kind, location.word) == (Kind.LOAD, "status")
                assert edge.when == ("is", expected)


RFC_CHANGES = {
    "the mailbox words change places": (
        "\t*kernel_word(area) = host->image->entry;\n"
        "\t*boot_params_word(area) = host->boot_params;\n",
        "\t*boot_params_word(area) = host->boot_params;\n"
        "\t*kernel_word(area) = host->image->entry;\n",
    ),
    "the fence is gone": ("\tmemory_barrier();\n", ""),
    "a mailbox word is not written": ("\t*boot_params_word(area) = host->boot_params;\n", ""),
    "both mailbox words hold the kernel": ("= host->boot_params;", "= host->image->entry;"),
    "the status word is not cleared": ("\t*status_word(area) = STATUS_FREE;\n", ""),
    "the status word is cleared by a locked instruction": (
        "*status_word(area) = STATUS_FREE;",
        "exchange(status_word(area), STATUS_FREE);",
    ),
    "the wait looks once": ("while (!relax());", "while (0);"),
    "the wait never ends": ("while (!relax());", "while (1);"),
    "the wait takes any value for the marker": ("== STATUS_STARTED", "!= STATUS_FREE"),
    "the lock is not taken by a locked instruction": ("!try_lock(host)", "host->lock"),
}


@pytest.mark.parametrize("change", RFC_CHANGES)
def test_another_code_is_another_process(change: str, changed: Change) -> None:
    host = changed("multikernel_rfc", "multikernel_rfc/kick.c", *RFC_CHANGES[change])
    process = extract(host, contract_of("multikernel_rfc"))
    assert behaviour(process) != behaviour(process_of("multikernel_rfc"))


def test_another_text_with_the_same_effect_is_the_same_process(changed: Change) -> None:
    host = changed(
        *("multikernel_rfc", "multikernel_rfc/kick.c"),
        *("\tmemory_barrier();\n", '\tmemory_barrier();\n\tasm volatile("nop; nop");\n'),
    )
    process = extract(host, contract_of("multikernel_rfc"))
    assert behaviour(process) == behaviour(process_of("multikernel_rfc"))


BARRIER = "\tmemory_barrier();\n"
REFUSED_CHANGES = {
    "a locked instruction that is not known": (
        *(BARRIER, '\tasm volatile("lock incl %0" : "+m" (*status_word(area)));\n'),
        "lock inc .*this locked instruction is not known",
    ),
    "a weaker fence": (BARRIER, '\tasm volatile("sfence");\n', "sfence: this instruction"),
    "an instruction with effects of its own": (BARRIER, '\tasm volatile("cli");\n', "cli"),
    "a part of a word": (
        *(BARRIER, "\t*(volatile u8 *)kernel_word(area) = 1;\n"),
        "touches kernel, but not as one word",
    ),
    "another place in the area": (
        *(BARRIER, "\tarea->memory[0x10] = 1;\n"),
        "touches the area at 0x10, where no word is",
    ),
    "a word changed by a plain instruction": (
        *(BARRIER, '\tasm volatile("incl %0" : "+m" (*status_word(area)));\n'),
        "changes status by a plain instruction",
    ),
    "a place that is not known": (
        *(BARRIER, "\t((volatile u8 *)area)[host->image->entry] = 1;\n"),
        "an address that is not known",
    ),
    "a value that is not known": (
        *(BARRIER, "\t*kernel_word(area) = host->boot_params + host->image->entry;\n"),
        "neither a constant nor of the attempt",
    ),
    "a SIPI to another page": (
        *("wake_up(apic_id, area->base)", "wake_up(apic_id, area->base + PAGE_SIZE)"),
        "calls send_sipi for another CPU or place",
    ),
    "an INIT to another CPU": (
        *("wake_up(apic_id, area->base)", "wake_up(apic_id + 1, area->base)"),
        "calls send_init for another CPU or place",
    ),
    "a function that a kick has no use for": (
        *(BARRIER, "\treserve(area->base, area->size);\n"),
        "calls reserve in a kick or wait",
    ),
    "a loop that nothing ends": (BARRIER, '\tasm volatile("1: jmp 1b");\n', "no stop within"),
    "a wait without a verdict": (
        *("return VERDICT_NOT_RESPONDING;", "return 77;"),
        "ends without a verdict",
    ),
}


@pytest.mark.parametrize("change", REFUSED_CHANGES)
def test_what_is_not_understood_is_refused_by_name_and_place(change: str, changed: Change) -> None:
    old, new, reason = REFUSED_CHANGES[change]
    host = changed("multikernel_rfc", "multikernel_rfc/kick.c", old, new)
    with pytest.raises(Refusal, match=f"^multikernel_rfc at 0x.*{reason}"):
        extract(host, contract_of("multikernel_rfc"))


def test_another_trampoline_has_its_words_elsewhere(rfc: HostObject) -> None:
    with_other_offsets = extract(rfc, contract_of("multikernel"))
    assert behaviour(with_other_offsets) == behaviour(process_of("multikernel_rfc"))


@pytest.mark.parametrize("name", ["multikernel_rfc", "multikernel"])
def test_each_action_is_at_an_instruction_that_does_it(name: str) -> None:
    mnemonics = {
        Kind.LOAD: {"mov", "cmp"},
        Kind.STORE: {"mov"},
        Kind.EXCHANGE: {"xchg"},
        Kind.COMPARE_EXCHANGE: {"lock cmpxchg"},
        Kind.FENCE: {"mfence", "lock cmpxchg"},
        Kind.INIT: {"call"},
        Kind.SIPI: {"call"},
    }
    text = load_host(HOST_FOLDER / name).text
    for location in process_of(name).locations:
        assert bool(location.addresses) == (location.kind in mnemonics)
        for at in location.addresses:
            found = next(Cs(CS_ARCH_X86, CS_MODE_64).disasm(text[at : at + 15], at))
            assert found.mnemonic in mnemonics[location.kind], location


def test_locations_that_become_one_keep_all_their_addresses() -> None:
    first = Location(Kind.LOAD, (Edge(1), Edge(2)), "status", addresses=(4,))
    stores = [Location(Kind.STORE, (Edge(3),), "status", 0, addresses=(at,)) for at in (16, 8)]
    end = Location(Kind.RETURN, ())
    _, store, _ = minimise(Process("host", (first, *stores, end))).locations
    assert store.addresses == (8, 16)


def test_what_a_condition_says_of_the_target_is_not_forgotten(changed: Change) -> None:
    """A value that is looked at and dropped tells most small APIC ids from others; only of small
    ones the owner is asked. Both ways must stay, and the second one breaks the protocol."""
    look = "\thost->offer = STATUS_OFFERED + apic_id;\n"
    again = (
        "\t/* Also a CPU that has refused is still in the area: halted, on its tables. */\n"
        "\thost->again = *status_word(area) != STATUS_FREE;\n"
        "\tif (host->again && host->owner != host->offer"
    )
    differs = "\tif ((*(volatile u8 *)&host->taken[apic_id] & 7) != apic_id)\n\t\trelax();\n"
    host = changed(
        *("multikernel", "multikernel/kick.c"),
        *(look + again, differs + look + again + " && apic_id < 8"),
    )
    process = extract(host, contract_of("multikernel"))
    explorer = Explorer(process, HARDENED.cpu, HARDENED.leave, Bounds(attempts=2, strays=0))
    assert "own_tables" in explorer.run(("own_tables",)).schedules
