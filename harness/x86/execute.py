# SPDX-License-Identifier: GPL-2.0-only
"""Execute a trampoline symbolically: from contract and image to a Run."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import angr
import archinfo
import z3
from claripy.backends import backend_z3

from harness.x86.cpu import Cpu, after_hand_over, after_init_sipi
from harness.x86.engine import TrampolineEngine
from harness.x86.given import Given, area_size, at_entry, given, kept_parts
from harness.x86.machine import Machine
from harness.x86.memory import EntryImage, Memory, Write, stretches
from harness.x86.path import Environment
from harness.x86.promise import Range
from harness.x86.prover import Prover
from harness.x86.run import LASTING, EndKind, Run
from harness.x86.static_tables import static_tables
from harness.x86.terms import VECTOR, Base, const, low, simplify, variables
from models.cpuid import Features
from trampoline.contract import Contract
from trampoline.image import FIXUP_SIZE, LOCK_WORD_SIZE, STATUS_WORD_SIZE, Image

MAX_PATHS = 250  # open and ended ones: ten times what any trampoline here needs
MAX_OPEN_AFTER_REFUSAL = 16  # with a refusal nothing can be proved: more paths are not worth it
PAGE = 0x1000

APIC_ID = "initial_apic_id"

# With angr, z3 takes 30 microseconds for each constant, to allow for more than 4,300 digits. No
# constant here has more than 20.
backend_z3.INT_STRING_CHUNK_SIZE = None


def bases(contract: Contract, image: Image) -> tuple[int, int]:
    """Lowest and highest base (physical, page aligned, inclusive) that the contract allows."""
    size = -(-len(image.data) // PAGE) * PAGE
    return contract.base.lowest, contract.base.limit - size


def execute(
    contract: Contract,
    image: Image,
    only_base: int | None = None,
    any_registers: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Run:
    """Run the image on all inputs: every base of the contract, or `only_base` (physical).

    `any_registers`: registers and flags hold anything at entry, see `cpu.after_init_sipi`.
    """
    started = time.perf_counter()
    low, high = (only_base, only_base) if only_base is not None else bases(contract, image)
    base = Base(low, high)
    features = Features(
        maxphyaddr=z3.ZeroExt(56, z3.BitVec("maxphyaddr", 8)),
        pae=z3.Bool("cpu_has_pae"),
        long_mode=z3.Bool("cpu_has_long_mode"),
        gib_pages=z3.Bool("cpu_has_1gib_pages"),
        no_execute=z3.Bool("cpu_has_nx"),
        five_level=z3.Bool("cpu_has_la57"),
        max_basic=z3.BitVec("cpuid_max_basic", 32),
        max_extended=z3.BitVec("cpuid_max_extended", 32),
        apic_id=z3.BitVec(APIC_ID, 8),
    )
    inputs = given(contract, image, base, features, any_registers)
    environment = _environment(contract, image, inputs)
    lost = ""
    for number, entry in enumerate(contract.entry):
        try:
            cpu = _start(number, contract, image, inputs, environment, any_registers)
        except ValueError as error:
            lost = f"entry {entry.called}: {error}"
            break
        where = f"{entry.called}: " if len(contract.entry) > 1 else ""
        if lost := _explore(image, environment, cpu, partial(_say, progress, where)):
            break
    return Run(
        name=contract.name,
        assumptions=inputs.assumptions,
        inputs={"base": base.term, **inputs.chosen, "maxphyaddr": features.maxphyaddr},
        kernel=inputs.kernel,
        boot_params=inputs.boot_params,
        entries=tuple(entry.called for entry in contract.entry),
        host_tables=inputs.host_tables,
        features=features,
        ends=tuple(environment.ends),
        covered=tuple(sorted(environment.covered)),
        solver_calls=environment.prover.calls,
        hardest=environment.prover.hardest,
        seconds=time.perf_counter() - started,
        lost=lost,
        any_registers=any_registers,
    )


def _say(progress: Callable[[str], None], where: str, text: str) -> None:
    progress(where + text)


def _environment(contract: Contract, image: Image, inputs: Given) -> Environment:
    symbols, tables = image.symbols, contract.tables
    stop = contract.kernel.symbol
    assume = {assumption for entry in contract.entry for assumption in entry.assume}
    return Environment(
        base=inputs.base,
        image=inputs.image,
        tables=range(symbols[tables.start], symbols[tables.end]) if tables else range(0),
        prover=Prover([condition for _, condition in inputs.assumptions]),
        features=inputs.features,
        upper_halves_zero="upper-halves-zero" in assume,
        known=_known(contract, image, inputs.image),
        shared=_shared(contract, image),
        fields=_fields(contract, image),
        stop=symbols[stop] if stop is not None else None,
        copies=tuple(
            (area.address, range(*(symbols[symbol] for symbol in area.copy_of)))
            for area in contract.area
            if area.copy_of is not None
        ),
        supported=_supported(contract, image, inputs),
        host_tables=inputs.host_tables,
        entries=_entries(contract, image, inputs.base),
    )


def _entries(contract: Contract, image: Image, base: Base) -> tuple[Range, ...]:
    """Page-table entries that are not in [tables]: the host's top-level table, areas."""
    found = [
        (const(area.address), const(area_size(area, image)))
        for area in contract.area
        if area.tables
    ]
    if contract.map is not None:
        found.append((base.at(image.symbols[contract.map.root]), const(PAGE)))
    return tuple(found)


def _supported(contract: Contract, image: Image, inputs: Given) -> dict[str, z3.BitVecRef]:
    """The bits of control registers that the host's words for them set: by promise they exist."""
    found = dict.fromkeys(("cr4", "efer"), const(0))
    for word in contract.word:
        if word.register_ is not None:
            term = inputs.image.words[image.symbols[word.symbol]]
            found[word.register_] |= low(term, 64)
    return {register: simplify(bits) for register, bits in found.items()}


def _shared(contract: Contract, image: Image) -> tuple[range, ...]:
    """The words that host and other CPUs may write at any time: status word and lock."""
    found = []
    if contract.status is not None:
        found.append((contract.status.word, STATUS_WORD_SIZE))
    if contract.lock is not None:
        found.append((contract.lock.word, LOCK_WORD_SIZE))
    return tuple(range(image.symbols[s], image.symbols[s] + size) for s, size in found)


def _fields(contract: Contract, image: Image) -> tuple[range, ...]:
    """Operands of instructions that are filled in by the host, or by the code itself."""
    starts = [*image.fixups, *(image.symbols[patched.symbol] for patched in contract.patched)]
    return tuple(range(start, start + FIXUP_SIZE) for start in sorted(starts))


def _known(contract: Contract, image: Image, at_entry: EntryImage) -> tuple[range, ...]:
    """The longest ranges of bytes that are neither scratch nor words of the host's: such as may be
    code, what the host has filled in there included."""
    host = {
        start + byte
        for start, word in at_entry.words.items()
        if start not in image.fixups
        for byte in range(word.size() // 8)
    }
    return tuple(stretches(set(range(len(image.data))) - at_entry.unknown - host))


def _start(
    number: int,
    contract: Contract,
    image: Image,
    inputs: Given,
    environment: Environment,
    any_registers: bool,
) -> Cpu:
    """The CPU at one of the entries. ValueError if nothing is known of the start before it."""
    entry = contract.entry[number]
    if entry.mode == "real":
        cpu = after_init_sipi(inputs.base, inputs.image, any_registers)
    else:
        cpu = after_hand_over(Memory(inputs.base, inputs.image), inputs.hand_over)
        cpu.pc = image.symbols[entry.symbol]
    cpu.memory = static_tables(cpu.memory, environment.tables)
    cpu.entry = number
    here = at_entry(number, contract)
    cpu.path = () if z3.is_true(here) else (here,)
    if entry.after is not None:
        kept = kept_parts(contract, image)
        before = [other.called for other in contract.entry].index(entry.after)
        cpu.memory = _left_by(before, contract, image, cpu.memory, environment)
        # What was assembled there may be code.
        cpu.hazards = cpu.memory.records[len(cpu.memory.records) - len(kept) :]
    cpu.found = len(cpu.memory.records)
    if cpu.paging:
        Machine(environment, cpu).map_image(flushed=True)
    return cpu


def _left_by(
    number: int, contract: Contract, image: Image, memory: Memory, environment: Environment
) -> Memory:
    """Memory at entry once a start at entry `number` has ended: what it leaves is kept in some
    parts of the image, and is the same on each of its paths, or was not touched."""
    before = [end for end in environment.ends if end.entry == number and end.kind in LASTING]
    if not any(end.kind is EndKind.HAND_OFF for end in before):
        raise ValueError(f"no start at {contract.entry[number].called} hands over")
    for part in kept_parts(contract, image):
        at = environment.base.at(part.start)
        untouched = memory.read(at, len(part))
        left = [
            end.memory.read(at, len(part), partial(environment.prover.possible, end.path))
            for end in before
        ]
        first, *others = [
            term
            for term, end in zip(left, before, strict=True)
            if end.kind is EndKind.HAND_OFF or not term.eq(untouched)
        ]
        if any(not first.eq(other) for other in others):
            raise ValueError(
                f"the bytes at {part.start:#x} are left differently by different paths"
            )
        if set(variables(first)) - {VECTOR}:
            raise ValueError(f"the bytes at {part.start:#x} are left with what depends on an input")
        pages = frozenset(range(part.start & -PAGE, part.stop, PAGE))
        memory = memory.append(Write(at, len(part), first, pages))
    return memory


def _explore(
    image: Image, environment: Environment, cpu: Cpu, progress: Callable[[str], None]
) -> str:
    """Let angr's simulation manager drive the engine until no path is left.

    What it returns says which paths were lost, if any.
    """
    for name in ("angr.sim_state",):
        logging.getLogger(name).setLevel(logging.ERROR)
    arch = archinfo.ArchAMD64()
    project = angr.Project(
        io.BytesIO(image.data),
        engine=TrampolineEngine,
        main_opts={"backend": "blob", "arch": arch, "base_addr": 0, "entry_point": 0},
        auto_load_libs=False,
    )
    project.factory.default_engine.environment = environment
    state: angr.SimState[Any, Any] = angr.SimState(project=project, mode="symbolic")
    state.regs._ip = 0
    state.register_plugin("cpu", cpu)
    manager = project.factory.simgr(state)
    while manager.active:
        manager.step()
        progress(f"{len(manager.active)} paths open, {len(environment.ends)} ended")
        if manager.errored:
            return f"a path ended with an error of the machine: {manager.errored[0].error}"
        refused = any(end.kind is EndKind.UNSUPPORTED for end in environment.ends)
        if refused and len(manager.active) > MAX_OPEN_AFTER_REFUSAL:
            return f"{len(manager.active)} paths were still open after the first refusal"
        if len(manager.active) + len(environment.ends) > MAX_PATHS:
            return f"more than {MAX_PATHS} paths, {len(manager.active)} of them still open"
    aside = [name for name in manager.stashes if name not in ("active", "deadended")]
    for name in aside:
        if manager.stashes[name]:
            return f"angr put paths aside as `{name}`"
    return ""
