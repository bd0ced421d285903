# SPDX-License-Identifier: GPL-2.0-only
"""The shipped trampolines from SIPI to every end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
import z3

from harness.x86.memory import RangeWrite
from harness.x86.prover import Prover
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.terms import INDEX, variables
from models.modes import Mode
from tests.x86.conftest import Execute
from tests.x86.values import Chosen, holds, value_of

NAMES = ["multikernel", "multikernel_rfc"]
GIB = 1 << 30
KERNELS = (
    *(0, 16 << 20, 4 * GIB - 1, 4 * GIB, 5 * GIB + 0x1234567, 511 * GIB, 512 * GIB, 600 * GIB),
    *(1024 * GIB - 4096, 1 << 46, (1 << 47) - 1, 1 << 47, 1 << 52, (1 << 64) - 1),
)
ONE_BASE = 0x8000


def inputs(seed: object, base: int | None = None) -> Iterator[Chosen]:
    """Some inputs, with those at the borders."""
    random = Random(f"{seed}")
    for kernel in (*KERNELS, *(random.getrandbits(random.randrange(32, 54)) for _ in range(8))):
        values = Chosen(
            sipi_vector=random.randrange(1, 0x90) if base is None else base >> 12,
            kernel_phys_addr=kernel,
            boot_params_phys_addr=random.choice((*KERNELS, random.getrandbits(40))),
            maxphyaddr=random.randrange(36, 53),
            **processor(random),
        )
        # One value for all that is open, so that a missing one shows.
        for name in ("rsi_upper_half", "rsp_upper_half", "rdx_at_entry", "accessed_dirty"):
            values[name] = random.getrandbits(64 if name == "rdx_at_entry" else 8)
        yield values


def processor(random: Random) -> dict[str, int]:
    """Features that go together; one in four has no long mode, maybe no extended leaves."""
    has_long_mode = random.randrange(4) > 0
    highest = 0x8000_0008 if has_long_mode else random.choice((0, 0x8000_0000, 0x8000_0004))
    extended = int(highest > 0x8000_0000)
    return {
        "cpu_has_pae": int(has_long_mode) or random.getrandbits(1),
        "cpu_has_long_mode": int(has_long_mode),
        "cpu_has_nx": extended and random.getrandbits(1),
        "cpu_has_1gib_pages": extended and random.getrandbits(1),
        "cpu_has_la57": 0,
        "cpuid_max_basic": 7,
        "cpuid_max_extended": highest,
    }


def end_of(run: Run, values: Chosen) -> PathEnd:
    """The one end that the input takes."""
    (end,) = [end for end in run.ends if holds(end.path, values)]
    return end


ENDS = {
    "multikernel": {
        (EndKind.HAND_OFF, Mode.LONG64): 1,
        # Not offered to this CPU; no leaf that names features; no long mode there.
        (EndKind.PARKED, Mode.REAL16): 3,
        (EndKind.PARKED, Mode.LONG64): 3,  # kernel or boot_params refused; no commit
    },
    "multikernel_rfc": {
        (EndKind.HAND_OFF, Mode.LONG64): 2,
        (EndKind.SHUTDOWN, Mode.PROTECTED32): 3,  # no PAE, no IA32_EFER, no long mode
        # The upper half of RSI, a table beyond the mapped ones, a jump to no canonical address.
        (EndKind.SHUTDOWN, Mode.LONG64): 3,
        (EndKind.TABLE_IN_USE, Mode.LONG64): 1,
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_the_paths_end_as_the_source_says(name: str, shipped: Execute) -> None:
    _, run = shipped(name)
    assert Counter((end.kind, end.mode) for end in run.ends) == ENDS[name]
    modes = {mode for end in run.ends for _, mode in end.trace}
    assert modes == {"REAL16", "PROTECTED16", "PROTECTED32", "COMPATIBILITY32", "LONG64"}


@pytest.mark.parametrize("name", NAMES)
def test_the_paths_exclude_each_other_and_leave_nothing_out(name: str, shipped: Execute) -> None:
    _, run = shipped(name)
    prover = Prover(run.hypotheses)
    conditions = [end.condition for end in run.ends]
    for i, first in enumerate(conditions):
        assert prover.possible((), first)
        for second in conditions[:i]:
            assert not prover.possible((first,), second)
    assert not prover.possible((), z3.Not(z3.Or(*conditions)))


@pytest.mark.parametrize("name", NAMES)
def test_every_input_takes_one_path(name: str, shipped: Execute) -> None:
    _, run = shipped(name)
    for values in inputs(name):
        end_of(run, values)


@pytest.mark.parametrize("name", NAMES)
def test_one_base_gives_what_all_bases_give_there(name: str, shipped: Execute) -> None:
    _, everywhere = shipped(name)
    _, here = shipped(name, ONE_BASE)
    for values in list(inputs(name, ONE_BASE))[::4]:
        a, b = end_of(everywhere, values), end_of(here, values)
        assert (a.kind, a.detail, a.instruction, a.trace) == (
            b.kind, b.detail, b.instruction, b.trace
        )  # fmt: skip
        for register, value in a.state.registers.items():
            assert value_of(value, values) == value_of(b.state.registers[register], values)
        for part in ("rip", "rflags", "gdtr_base", "gdtr_limit"):
            first, second = getattr(a.state, part), getattr(b.state, part)
            assert value_of(first, values) == value_of(second, values), part
        for part in ("cr0", "cr3", "cr4", "efer"):
            first, second = getattr(a.state.control, part), getattr(b.state.control, part)
            assert value_of(first, values) == value_of(second, values), part
        assert stores(a, values) == stores(b, values)


def stores(end: PathEnd, values: Chosen) -> list[tuple[int, int, int]]:
    """Address, size and value of each store, in order, ranges written out at both ends."""
    found = []
    for record in end.memory.records:
        first, size = value_of(record.address, values), record.size
        count, stride = (record.count, record.stride) if isinstance(record, RangeWrite) else (1, 0)
        for index in sorted({0, 1, count - 1} & set(range(count))):
            value = value_of(record.value, Chosen(values | {INDEX: index}))
            found.append((first + index * stride, size, value))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_hand_off_is_the_boot_protocols(name: str, shipped: Execute) -> None:
    _, run = shipped(name)
    for end in run.ends_of(EndKind.HAND_OFF):
        assert end.state.rip.eq(run.inputs["kernel_phys_addr"])
        assert end.state.registers["rsi"].eq(run.inputs["boot_params_phys_addr"])
        assert end.state.segments["cs"].selector.as_long() == 0x10


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_assumed_of_registers_and_features(name: str, shipped: Execute) -> None:
    _, run = shipped(name)
    sentences = [sentence for sentence, _ in run.assumptions]
    assert not any("upper halves" in sentence or "LM = 1" in sentence for sentence in sentences)
    found = {name for end in run.ends for part in end.path for name in variables(part)}
    assert "cpu_has_long_mode" in found


def test_only_the_posted_trampoline_depends_on_upper_halves(shipped: Execute) -> None:
    def open_halves(name: str) -> set[str]:
        ends = shipped(name)[1].ends
        found = {symbol for end in ends for part in end.path for symbol in variables(part)}
        return {re.sub(r"_\d+$", "", symbol) for symbol in found if "upper_half" in symbol}

    assert open_halves("multikernel") == set()
    assert open_halves("multikernel_rfc") == {"rsi_upper_half"}
