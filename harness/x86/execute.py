# SPDX-License-Identifier: GPL-2.0-only
"""Execute a trampoline symbolically: from contract and image to a Run."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from typing import Any

import angr
import archinfo
import z3

from harness.x86.cpu import Cpu, after_init_sipi
from harness.x86.engine import TrampolineEngine
from harness.x86.memory import EntryImage, stretches
from harness.x86.path import Environment
from harness.x86.prover import Prover
from harness.x86.run import EndKind, Run
from harness.x86.static_tables import static_tables
from harness.x86.terms import Base
from models.cpuid import Features, consistent
from trampoline.contract import Contract
from trampoline.image import STATUS_WORD_SIZE, Image

MAX_PATHS = 1000
MAX_OPEN_AFTER_REFUSAL = 16  # with a refusal nothing can be proved: more paths are not worth it
PAGE = 0x1000

UPPER_HALVES_ZERO = (
    "the upper halves of the general registers are 0 after the switch to 64-bit mode "
    "(the manual leaves them undefined)"
)
INIT_STATE = "the CPU starts as INIT and SIPI leave it (SDM 3A table 9-1); nothing else is known"
ANY_REGISTERS = (
    "the CPU starts in real mode where the SIPI says, with control registers, limits and rights as "
    "INIT leaves them (SDM 3A table 9-1); registers and flags hold anything"
)
APIC_ID = "initial_apic_id"
LONG_MODE = "the CPU has Intel 64 (CPUID.80000001H:EDX.LM = 1)"


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
    kernel = z3.BitVec("kernel_phys_addr", 64)
    boot_params = z3.BitVec("boot_params_phys_addr", 64)
    symbols = image.symbols
    status = symbols[contract.status.word]
    entry_image = EntryImage(
        data=image.data,
        unknown=scratch(contract, image),
        words={
            symbols[contract.mailbox.kernel]: kernel,
            symbols[contract.mailbox.boot_params]: boot_params,
        },
    )
    assumptions = _assumptions(contract, base, features, any_registers)
    environment = Environment(
        base=base,
        image=entry_image,
        tables=range(symbols[contract.tables.start], symbols[contract.tables.end]),
        prover=Prover([condition for _, condition in assumptions]),
        features=features,
        upper_halves_zero="upper-halves-zero" in contract.entry.assume,
        known=_known(entry_image),
        shared=range(status, status + STATUS_WORD_SIZE),
    )
    cpu = after_init_sipi(base, entry_image, any_registers)
    cpu.memory = static_tables(cpu.memory, environment.tables)
    lost = _explore(image, environment, cpu, progress)
    return Run(
        name=contract.name,
        assumptions=assumptions,
        inputs={
            "base": base.term,
            "kernel_phys_addr": kernel,
            "boot_params_phys_addr": boot_params,
            "maxphyaddr": features.maxphyaddr,
        },
        features=features,
        ends=tuple(environment.ends),
        covered=tuple(sorted(environment.covered)),
        solver_calls=environment.prover.calls,
        seconds=time.perf_counter() - started,
        lost=lost,
    )


def scratch(contract: Contract, image: Image) -> frozenset[int]:
    """Offsets of the image bytes of which the contract says nothing at entry."""
    offsets: set[int] = set()
    for part in contract.scratch:
        start = image.symbols[part.start] + part.offset
        end = start + part.size if part.size is not None else image.symbols[part.end or ""]
        offsets.update(range(start, end))
    return frozenset(offsets)


def _known(image: EntryImage) -> tuple[range, ...]:
    """The longest ranges of bytes that are neither scratch nor mailbox."""
    words = {start + byte for start in image.words for byte in range(8)}
    return tuple(stretches(set(range(len(image.data))) - image.unknown - words))


def _assumptions(
    contract: Contract, base: Base, features: Features, any_registers: bool
) -> tuple[tuple[str, z3.BoolRef], ...]:
    lowest, highest = contract.cpu.maxphyaddr
    true = z3.BoolVal(True)
    result = [
        (
            f"the image lies at a page-aligned base from {base.lowest:#x} to {base.highest:#x}",
            z3.simplify(base.in_range()),
        ),
        (
            f"MAXPHYADDR is {lowest} to {highest}",
            z3.And(z3.UGE(features.maxphyaddr, lowest), z3.ULE(features.maxphyaddr, highest)),
        ),
        ("no NMI, SMI, INIT, machine check or debug exception during the run", true),
        ("no other agent writes the image during the run, but for the status word", true),
        ("memory is RAM: a read, also one of a page walk, gives what was written last", true),
        ("A20 is on; no nested paging or memory encryption", true),
        (
            "CPUID exists and tells the truth; Intel 64 comes with PAE and leaf 80000008H",
            z3.simplify(consistent(features)),
        ),
        (ANY_REGISTERS if any_registers else INIT_STATE, true),
        ("the image's bytes are as assembled, but for mailbox and scratch areas", true),
    ]
    if "long-mode" in contract.cpu.assume:
        result.append((LONG_MODE, features.long_mode))
    if "upper-halves-zero" in contract.entry.assume:
        result.append((UPPER_HALVES_ZERO, true))
    return tuple(result)


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
    forks = 0
    while manager.active:
        manager.step()
        forks += 1
        progress(f"{len(manager.active)} paths open, {len(environment.ends)} ended")
        if manager.errored:
            return f"a path ended with an error of the machine: {manager.errored[0].error}"
        refused = any(end.kind is EndKind.UNSUPPORTED for end in environment.ends)
        if refused and len(manager.active) > MAX_OPEN_AFTER_REFUSAL:
            return f"{len(manager.active)} paths were still open after the first refusal"
        if forks > MAX_PATHS:
            return f"{len(manager.active)} paths were open after {MAX_PATHS} branches"
    aside = [name for name in manager.stashes if name not in ("active", "deadended")]
    for name in aside:
        if manager.stashes[name]:
            return f"angr put paths aside as `{name}`"
    return ""
