# SPDX-License-Identifier: GPL-2.0-only
"""Inputs to replay beside a proof: corners that z3 chooses, and random ones. Always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

import z3

from harness.qemu.machine import Machine
from harness.replay.cpu import on_qemu
from harness.replay.predict import Input
from harness.x86.prover import RLIMIT
from harness.x86.run import Run
from harness.x86.solver import check, fresh
from harness.x86.terms import VECTOR

GIB = 1 << 30
LOW_END, FOUR_GIB, HALF_TIB = 0xC000_0000, 4 * GIB, 512 * GIB
RANDOM = {"below 4 GiB": 50, "4..512 GiB": 50, "above 512 GiB": 40, "at a border": 60}
BORDERS = (GIB, 2 * GIB, 3 * GIB, FOUR_GIB, 5 * GIB, 6 * GIB, HALF_TIB, 513 * GIB, 640 * GIB)
PLACE = 0x2000  # bytes that must be RAM at kernel and boot_params


def region(kernel: int) -> str:
    """The part of the address space that a kernel address belongs to, for the report."""
    if any(abs(kernel - border) <= GIB // 2 for border in BORDERS[3:]):
        return "at a border"
    if kernel < FOUR_GIB:
        return "below 4 GiB"
    return "4..512 GiB" if kernel < HALF_TIB else "above 512 GiB"


def corners(run: Run, machine: Machine) -> Iterator[Input]:
    """For each path, inputs in RAM that sit at borders of what page tables describe."""
    kernel, boot_params = (run.inputs[n] for n in ("kernel_phys_addr", "boot_params_phys_addr"))

    def crosses(start: z3.BitVecRef, size: int, bits: int) -> z3.BoolRef:
        return z3.LShR(start, bits) != z3.LShR(start + (size - 1), bits)

    conditions = [
        z3.BoolVal(True),
        crosses(kernel, GIB, 39),
        crosses(kernel, GIB, 30),
        crosses(boot_params, 0x1000, 30),
        crosses(boot_params, 0x1000, 39),
        z3.LShR(kernel, 30) == z3.LShR(boot_params, 30),
        z3.LShR(kernel, 30) + 1 == z3.LShR(boot_params, 30),
        z3.LShR(kernel, 39) != z3.LShR(boot_params, 39),
        z3.And(z3.LShR(kernel, 39) != 0, z3.LShR(kernel, 39) == z3.LShR(boot_params, 39)),
    ]
    for end in run.ends:
        for corner in conditions:
            for in_ram in (z3.And(_in_ram(kernel, machine), _in_ram(boot_params, machine)), True):
                here = run.inputs["maxphyaddr"] == machine.phys_bits
                solver = fresh((*run.hypotheses, *end.path, corner, in_ram, here), RLIMIT)
                if check(solver) == z3.sat:
                    yield _from_model(solver.model(), run, machine)
                    break


def _in_ram(address: z3.BitVecRef, machine: Machine) -> z3.BoolRef:
    windows = [w for w in machine.ram[1:] if len(w) > PLACE]
    return z3.Or(
        *(z3.And(z3.UGE(address, w.start), z3.ULE(address, w.stop - PLACE)) for w in windows)
    )


def _from_model(model: z3.ModelRef, run: Run, machine: Machine) -> Input:
    names = ("kernel_phys_addr", "boot_params_phys_addr")
    values = {n: model.eval(run.inputs[n], model_completion=True).as_long() for n in names}
    values[VECTOR] = model.eval(run.inputs["base"], model_completion=True).as_long() >> 12
    return on_qemu({**values, "maxphyaddr": machine.phys_bits}, {})


def randoms(lowest: int, highest: int, machine: Machine, share: float = 1.0) -> Iterator[Input]:
    """Random inputs in RAM, `share` of the usual number; bases from `lowest` to `highest`."""
    rng = random.Random(machine.phys_bits)
    ranges = {
        "below 4 GiB": (0x100000, LOW_END),
        "4..512 GiB": (FOUR_GIB, HALF_TIB),
        "above 512 GiB": (HALF_TIB, machine.ram[-1].stop),
    }
    for name, count in RANDOM.items():
        made = 0
        for _ in range(int(count * share) * 20):
            if made == int(count * share):
                break
            base = rng.choice((lowest, highest, rng.randrange(lowest, highest + 1, 0x1000)))
            kernel, boot_params = (_address(rng, ranges, name) for _ in range(2))
            if rng.random() < 0.3:
                boot_params = kernel + rng.randrange(0x1000, 2 * GIB)
            free = all(machine.has_ram(a, PLACE) for a in (kernel, boot_params))
            if not free or (kernel < base + 0x10000 and base < kernel + PLACE):
                continue
            made += 1
            values = {"kernel_phys_addr": kernel, "boot_params_phys_addr": boot_params}
            cpu = {VECTOR: base >> 12, "maxphyaddr": machine.phys_bits}
            yield on_qemu({**values, **cpu}, {}, rng.randbytes(64))


def _address(rng: random.Random, ranges: dict[str, tuple[int, int]], name: str) -> int:
    if name == "at a border":
        return rng.choice(BORDERS) + rng.choice((-1, 1)) * rng.randrange(0, 0x2000)
    low, high = ranges[name]
    return rng.randrange(low, max(high, low + 1)) & rng.choice((-1, -0x1000, -0x200000))
