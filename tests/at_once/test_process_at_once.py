# SPDX-License-Identifier: GPL-2.0-only
"""What is read off the code of a CPU that is started while others are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.at_once.process import Started, started
from harness.protocol.target import ProcessError
from models.process import Edge, Kind, Location
from tests.at_once.conftest import Read
from tests.proofs.kills import Mutant, mutated
from tests.proofs.test_legoos_can_fail import LOCK

TAKE = "1:\tlock btsl\t$LOCK_BIT, OFF(tr_lock)\n\tjnc"
STUCK = "1:\tbtl\t$LOCK_BIT, OFF(tr_lock)\n\tjnc\t1b\n"


def mutant(folder: Path, source: dict[str, str], contract: dict[str, str] | None = None) -> Started:
    subject, _ = mutated(folder, "legoos", Mutant({}, source, contract or {}))
    return started(subject.contract, subject.image, subject.run)


def locks(found: Started) -> list[tuple[int, Location]]:
    return [(n, one) for n, one in enumerate(found.image.cpu.locations) if one.word == "lock"]


def answers(location: Location) -> dict[int, object]:
    return {edge.target: edge.when for edge in location.edges}


def test_a_spin_lock_is_an_exchange_that_goes_back_to_itself(read: Callable[[str], Read]) -> None:
    (number, take), (_, give_back) = locks(read("legoos").started)
    assert (take.kind, take.value) == (Kind.EXCHANGE, 1)
    again, onward = take.edges
    assert again == Edge(number, ("is", (1,)))
    assert onward.when == ("is", (0,))
    assert (give_back.kind, give_back.value, give_back.edges[0].when) == (Kind.EXCHANGE, 0, None)


def test_without_lock_it_is_a_load_and_a_store(tmp_path: Path) -> None:
    taking = locks(mutant(tmp_path, {"1:\tlock btsl": "1:\tbtsl"}))[:3]
    (number, load), *stores = taking
    assert load.kind is Kind.LOAD
    assert [(one.kind, one.value) for _, one in stores] == [(Kind.STORE, 1)] * 2
    assert answers(load) == {at: ("is", (n,)) for n, (at, _) in zip((1, 0), stores, strict=True)}
    assert [edge.target for edge in stores[0][1].edges] == [number]


def test_a_compare_exchange_and_a_look_before_it_are_such(tmp_path: Path) -> None:
    code = "1:\tbtl\t$LOCK_BIT, OFF(tr_lock)\n\tjc\t1b\n\tmovl\t$1, %ecx\n\txorl\t%eax, %eax\n"
    code += "\tlock cmpxchgl\t%ecx, OFF(tr_lock)\n\tjz"
    (look, first), (take, second), (again, third), _ = locks(mutant(tmp_path, {TAKE: code}))
    assert [one.kind for one in (first, second, third)] == [
        *(Kind.LOAD, Kind.COMPARE_EXCHANGE, Kind.LOAD)
    ]
    assert (second.expected, second.value) == (0, 1)
    assert answers(first) == {look: ("is", (1,)), take: ("is", (0,))}
    assert answers(second)[again] == ("is", (1,))
    assert answers(third) == {again: ("is", (1,)), take: ("is", (0,))}


def test_the_lock_begins_as_it_is_assembled(tmp_path: Path) -> None:
    found = mutant(tmp_path, {"tr_lock:\n\t.long\t0": "tr_lock:\n\t.long\t1"})
    assert found.image.lock == 1


def test_without_a_lock_there_is_only_the_image(read: Callable[[str], Read]) -> None:
    found = read("legoos_posted").started
    assert found.image.lock is None
    assert not locks(found)


def test_an_operand_that_is_patched_is_read_where_it_is_executed(
    read: Callable[[str], Read],
) -> None:
    (jump,) = (
        one for one in read("legoos").started.image.cpu.locations if one.addresses == (0x75,)
    )
    assert (jump.kind, jump.word) == (Kind.LOAD, "image")


def test_a_load_of_cr3_reads_tables(read: Callable[[str], Read]) -> None:
    locations = read("legoos").started.image.cpu.locations
    places = {one.addresses[0] for one in locations if (one.kind, one.word) == (Kind.LOAD, "image")}
    assert 0xFE in places  # movl %eax, %cr3: no operand in memory


def test_each_entry_is_a_start_and_those_of_a_sipi_are_known(read: Callable[[str], Read]) -> None:
    found = read("start64").started
    assert found.image.starts == (0, 1)
    assert found.real == (0,)
    assert found.image.cpu.locations[1].place == "trampoline_start64"


def test_the_last_of_many_accesses_in_a_row_is_one_of_its_own(read: Callable[[str], Read]) -> None:
    locations = read("legoos").started.image.cpu.locations
    (first,) = (n for n, one in enumerate(locations) if one.addresses == (0xAF,))
    last = locations[locations[first].edges[0].target]
    assert (last.kind, last.word, last.addresses) == (Kind.STORE, "image", (0xEB,))


@pytest.mark.parametrize(
    ("source", "contract", "reason"),
    [
        ({"1:\tlock btsl": "1:\tlock btsw"}, {}, "part of a shared word"),
        (
            {"\tlock btrl\t$LOCK_BIT, OFF(tr_lock)\n": "\tmovb\t$0, OFF(tr_lock)\n"},
            {},
            "may meet part of the lock",
        ),
        ({LOCK: "\tmovl\t%edx, OFF(tr_lock)\n" + LOCK}, {}, "no process can say"),
        ({"1:\tlock btsl\t$LOCK_BIT": "1:\tlock btsl\t$1"}, {}, "the code does not ask which"),
    ],
)
def test_what_no_process_can_say_is_refused(
    tmp_path: Path, source: dict[str, str], contract: dict[str, str], reason: str
) -> None:
    with pytest.raises(ProcessError, match=reason):
        mutant(tmp_path, source, contract)


def test_another_bit_of_the_word_is_a_lock_too(tmp_path: Path) -> None:
    found = mutant(
        tmp_path,
        {
            "1:\tlock btsl\t$LOCK_BIT": "1:\tlock btsl\t$7",
            "\tlock btrl\t$LOCK_BIT": "\tlock btrl\t$7",
        },
    )
    assert [one.value for _, one in locks(found)] == [0x80, 0]
