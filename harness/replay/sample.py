# SPDX-License-Identifier: GPL-2.0-only
"""Inputs to replay beside a proof: corners that z3 chooses, and random ones, always the same. Which
input stands for a corner may depend on what z3 was asked before."""

from __future__ import annotations

import random
from collections.abc import Iterator

import z3

from harness.qemu.machine import Machine
from harness.replay.cpu import QEMU_CPU
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Input, Predictor
from harness.solve.evaluate import compile_term, evaluate
from harness.x86.given import HAND_OVER, word_name
from harness.x86.prover import RLIMIT
from harness.x86.run import EndKind, PathEnd, Run
from harness.x86.solver import ask
from harness.x86.terms import ENTRY, VECTOR, variables
from models.modes import GENERAL_REGISTERS

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


def corners(predictor: Predictor, machine: Machine) -> Iterator[Input]:
    """For each path an input; if it hands over, inputs at borders of what page tables describe.

    In RAM, if that can be.
    """
    run = predictor.run
    in_ram = z3.And(*(_in_ram(place, machine) for place in _places(run)))
    here = run.inputs["maxphyaddr"] == machine.phys_bits
    for end in run.ends:
        borders = _borders(run) if end.kind is EndKind.HAND_OFF else [z3.BoolVal(True)]
        for corner in borders:
            for where in (in_ram, z3.BoolVal(True)):
                found = ask((*run.hypotheses, *end.path, corner, where, here), RLIMIT).model
                if found is not None:
                    yield as_on_qemu(predictor, _from_model(found, end, run), {})
                    break


def _borders(run: Run) -> list[z3.BoolRef]:
    """Conditions on where kernel and boot_params lie."""

    def crosses(start: z3.BitVecRef, size: int, bits: int) -> z3.BoolRef:
        return z3.LShR(start, bits) != z3.LShR(start + (size - 1), bits)

    kernel, boot_params = run.kernel, run.boot_params
    found = [z3.BoolVal(True), crosses(kernel, GIB, 39), crosses(kernel, GIB, 30)]
    if boot_params is not None:
        found += [
            crosses(boot_params, 0x1000, 30),
            crosses(boot_params, 0x1000, 39),
            z3.LShR(kernel, 30) == z3.LShR(boot_params, 30),
            z3.LShR(kernel, 30) + 1 == z3.LShR(boot_params, 30),
            z3.LShR(kernel, 39) != z3.LShR(boot_params, 39),
            z3.And(z3.LShR(kernel, 39) != 0, z3.LShR(kernel, 39) == z3.LShR(boot_params, 39)),
        ]
    return found


def _places(run: Run) -> list[z3.BitVecRef]:
    """Addresses behind which there must be RAM: kernel and boot_params."""
    return [run.kernel, *([run.boot_params] if run.boot_params is not None else [])]


def _in_ram(address: z3.BitVecRef, machine: Machine) -> z3.BoolRef:
    windows = [w for w in machine.ram[1:] if len(w) > PLACE]
    return z3.Or(
        *(z3.And(z3.UGE(address, w.start), z3.ULE(address, w.stop - PLACE)) for w in windows)
    )


def _from_model(model: z3.ModelRef, end: PathEnd, run: Run) -> dict[str, int]:
    """The values of what the host chooses: the inputs, the entry, the state at a 64-bit one."""
    chosen = {name for term in run.inputs.values() for name in variables(term)}
    symbols: dict[str, z3.ExprRef] = {}
    for term in (*run.hypotheses, *end.path, *run.inputs.values()):
        symbols |= {n: t for n, t in variables(term).items() if z3.is_bv(t)}
    return {
        name: model.eval(symbol, model_completion=True).as_long()
        for name, symbol in symbols.items()
        if name in chosen or name == ENTRY or name.endswith(HAND_OVER)
    }


def randoms(
    predictor: Predictor,
    bases: tuple[int, int],
    machine: Machine,
    share: float = 1.0,
    again: int = 0,
) -> Iterator[Input]:
    """Random inputs in RAM, `share` of the usual number; bases from the first to the second.

    Always the same ones; `again` counts how often some were asked for before: then others.
    """
    rng = random.Random(machine.phys_bits + 64 * again)
    draw = _Draw(predictor, bases, machine, rng)
    for region_name, count in RANDOM.items():
        made = 0
        for _ in range(int(count * share) * 20):
            if made == int(count * share):
                break
            values = draw.values(region_name)
            if values is not None:
                made += 1
                yield as_on_qemu(predictor, values, {}, rng.randbytes(64))


class _Draw:
    """Draws inputs that satisfy the assumptions of a run, and that the machine has RAM for."""

    def __init__(
        self,
        predictor: Predictor,
        bases: tuple[int, int],
        machine: Machine,
        rng: random.Random,
    ) -> None:
        self._predictor, self._machine, self._rng = predictor, machine, rng
        self._lowest, self._highest = bases
        self._ranges = {
            "below 4 GiB": (0x100000, LOW_END),
            "4..512 GiB": (FOUR_GIB, HALF_TIB),
            "above 512 GiB": (HALF_TIB, machine.ram[-1].stop),
        }
        symbols: dict[str, z3.ExprRef] = {}
        for term in predictor.run.hypotheses:
            symbols |= variables(term)
        self._symbols = {n: s.size() if z3.is_bv(s) else 1 for n, s in symbols.items()}
        self._hypotheses = [compile_term(h) for h in predictor.run.hypotheses]

    def values(self, region_name: str) -> dict[str, int] | None:
        """One input; None if it is none that can be replayed."""
        rng, run, contract = self._rng, self._predictor.run, self._predictor.contract
        values = {name: 0 for name in self._symbols} | dict(QEMU_CPU)
        values["maxphyaddr"] = self._machine.phys_bits
        values[ENTRY] = rng.randrange(len(contract.entry))
        values[VECTOR] = self._base(region_name) >> 12
        for name in ("kernel_phys_addr", "boot_params_phys_addr"):
            if name in run.inputs:
                values[name] = self._address(region_name)
        if "boot_params_phys_addr" in run.inputs and rng.random() < 0.3:
            start = evaluate(run.kernel, values, lambda address: 0)
            values["boot_params_phys_addr"] = start + rng.randrange(0x1000, 2 * GIB)
        for word in contract.word:
            values[word_name(word.symbol)] = word.must | rng.getrandbits(8 * word.size) & word.may
        if self._predictor.entry_of(values).mode == "long64":
            values |= self._handed_over(region_name)
        places = [evaluate(place, values, lambda address: 0) for place in _places(run)]
        image = range(
            values[VECTOR] << 12, (values[VECTOR] << 12) + len(self._predictor.image.data)
        )
        inside = contract.kernel.symbol is not None
        free = all(self._machine.has_ram(place, PLACE) for place in places[inside:])
        meets = any(p < image.stop and image.start < p + PLACE for p in places[inside:])
        allowed = all(h(values, lambda address: 0) for h in self._hypotheses)
        return values if free and allowed and not meets else None

    def _handed_over(self, region_name: str) -> dict[str, int]:
        """What a 64-bit entry finds in registers."""
        rng = self._rng
        found = {name: rng.getrandbits(64) for name in GENERAL_REGISTERS}
        found["rsp"] = self._address(region_name) & -8
        found |= {name: rng.getrandbits(16) for name in ("cr0", "cr4", "efer")}
        return {f"{name}_at_{HAND_OVER}": value for name, value in found.items()}

    def _base(self, region_name: str) -> int:
        if self._highest < LOW_END:
            between = self._rng.randrange(self._lowest, self._highest + 1, 0x1000)
            return self._rng.choice((self._lowest, self._highest, between))
        return self._address(region_name) & -0x1000

    def _address(self, region_name: str) -> int:
        rng = self._rng
        if region_name == "at a border":
            return rng.choice(BORDERS) + rng.choice((-1, 1)) * rng.randrange(0, 0x2000)
        low, high = self._ranges[region_name]
        return rng.randrange(low, max(high, low + 1)) & rng.choice((-1, -0x1000, -0x200000))
