# SPDX-License-Identifier: GPL-2.0-only
"""Counted loops in one step: all iterations but the last become one range write.

Nothing is assumed of a loop. Its body is executed once from unknown registers. z3 must then prove
that one iteration moves every register by a constant, so that iteration i starts with r0 + i * d
(induction: it holds for i = 0, and the step was proved for all register values); that the one store
of iteration i goes to a0 + i * stride; and that the loop goes on after each of the iterations left
out. The last iteration is executed as usual, so flags come out exact. A loop of any other shape is
not summarised but unrolled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import z3

from harness.x86.errors import Unsupported
from harness.x86.lift import FIELD, Instruction
from harness.x86.machine import Machine
from harness.x86.memory import RangeWrite
from harness.x86.pcode import Jump, Plain, Pointer, Port, undefined_flags
from harness.x86.prover import RLIMIT
from harness.x86.registers import FLAGS, Registers, general
from harness.x86.solver import check, fresh
from harness.x86.terms import (
    const,
    index_symbol,
    low,
    number,
    simplify,
    simplify_products,
    variables,
)

MAX_COUNT = 1 << 20  # iterations; more is refused rather than summarised
Continues = Callable[[Registers, Jump | None], z3.BoolRef]
"""The condition under which the loop goes on, from the registers after an iteration."""


class _NotCounted(Exception):
    """The loop has not the shape that can be summarised."""


class _Body:
    """A port that runs one iteration aside: stores are noted, loads end the attempt."""

    def __init__(self, machine: Machine, registers: Registers) -> None:
        self.machine = machine
        self.registers = registers
        self.stores: list[tuple[z3.BitVecRef, z3.BitVecRef]] = []

    def load(self, address: z3.BitVecRef | Pointer, size: int) -> z3.BitVecRef:
        raise _NotCounted

    def store(self, address: z3.BitVecRef | Pointer, value: z3.BitVecRef) -> None:
        if isinstance(address, Pointer):
            raise _NotCounted
        self.stores.append((simplify(low(address, 64)), simplify(value)))

    def special(self, name: str) -> z3.BitVecRef:
        raise _NotCounted

    def pc_relative(self, offset: int, bits: int) -> z3.BitVecRef:
        return self.machine.pc_relative(offset, bits)

    def field(self, offset: int) -> z3.BitVecRef:
        return self.machine.field(offset)


@dataclass(frozen=True)
class _Induction:
    """A register that moves by `step` (of `bits` bits) in each iteration.

    With 32 bits the upper half stays as it is.
    """

    start: z3.BitVecRef  # 64 bits, before the first iteration
    symbol: z3.BitVecRef  # stands for the low `bits` at the begin of an iteration
    step: int
    bits: int

    def at(self, index: z3.BitVecRef) -> z3.BitVecRef:
        """The low `bits` at the begin of iteration `index` (64 bits)."""
        first = low(self.start, self.bits)
        moved = low(index, self.bits) * const(self.step, self.bits)
        return simplify_products(first + moved)

    def whole(self, index: z3.BitVecRef) -> z3.BitVecRef:
        """All 64 bits at the begin of iteration `index`."""
        return _with_upper(self.start, self.at(index))


def _with_upper(old: z3.BitVecRef, value: z3.BitVecRef) -> z3.BitVecRef:
    if value.size() == 64:
        return value
    return simplify(z3.Concat(z3.Extract(63, value.size(), old), value))


def summarise(machine: Machine, body: Sequence[Instruction], continues: Continues) -> bool:
    """Replace all iterations but the last one. False, and nothing changed, if that is not proved.

    The CPU stands before the first iteration to be replaced, and the loop is entered for sure.
    """
    try:
        stores, goes_on, moving = _one_iteration(machine, body, continues)
        if len(stores) != 1:
            raise _NotCounted
        there = [(r.symbol, r.at(index_symbol)) for r in moving.values() if r is not None]
        address, value = (simplify(z3.substitute(term, *there)) for term in stores[0])
        goes_on = simplify(z3.substitute(goes_on, *there))
        count = _iterations_left_out(machine, goes_on)
        if count == 0:
            return True
        record = _range_write(machine, address, value, count)
        fields = [range(at, at + FIELD) for instruction in body for at in instruction.fields]
        if any(machine.may_hit(record, field) for field in fields):
            raise _NotCounted
    except (_NotCounted, Unsupported):
        return False
    machine.write_range(record)
    for name, induction in moving.items():
        machine.registers.values[name] = machine.environment.base.normal(
            machine.environment.unknown(f"{name}_in_loop", 64)
            if induction is None
            else induction.whole(const(count))
        )
    for name in _written_flags(body):
        machine.registers.flags[name] = machine.environment.unknown_flag(f"{name}_in_loop")
    return True


def _one_iteration(
    machine: Machine, body: Sequence[Instruction], continues: Continues
) -> tuple[list[tuple[z3.BitVecRef, z3.BitVecRef]], z3.BoolRef, dict[str, _Induction | None]]:
    """Execute the body from unknown registers: its stores, when the loop goes on, what moves.

    Each register that the body writes moves by a constant, or nothing is known of it (None).
    """
    start, unknown = machine.registers.values, machine.environment.unknown
    symbols = {
        name: unknown(f"{name}_of_iteration", width)
        for name, width in _written_registers(machine, body).items()
    }
    unknown_flags = {
        name: machine.environment.unknown_flag(f"{name}_of_iteration")
        for name in _written_flags(body)
    }
    before = {name: _with_upper(start[name], symbol) for name, symbol in symbols.items()}
    after = Registers({**start, **before}, {**machine.registers.flags, **unknown_flags})
    port, jump = _execute(machine, body, after)
    for name, symbol in symbols.items():  # what was taken for 0 must be so after each iteration
        if symbol.size() == 32 and machine.cpu.mode.bits == 64:
            upper = z3.Extract(63, 32, after.values[name])
            if not machine.environment.prover.holds((), upper == 0):
                raise _NotCounted
    moving = {
        name: _induction(machine, start[name], symbol, after.values[name])
        for name, symbol in symbols.items()
    }
    goes_on = continues(after, jump)
    loose = {str(symbol) for name, symbol in symbols.items() if moving[name] is None}
    loose |= {symbol for flag in unknown_flags.values() for symbol in variables(flag)}
    for term in (goes_on, *(part for store in port.stores for part in store)):
        if loose & set(variables(term)):
            raise _NotCounted
    return port.stores, goes_on, moving


def _written_registers(machine: Machine, body: Sequence[Instruction]) -> dict[str, int]:
    """The registers that the body writes, and how many of their low bits may move by a constant.

    Those are 32 outside 64-bit mode, and inside it for one whose upper half is 0 before the loop
    and is set to 0 in it, by a write to its lower half (SDM 1, 3.4.1.1).
    """
    found: dict[str, int] = {}
    for instruction in body:
        for op in instruction.ops:
            if op.output is None or op.output.space != "register":
                continue
            if (place := general(op.output, instruction.bits)) is None:
                continue
            name, size = place[0], op.output.size
            start = machine.registers.values[name]
            halved = instruction.bits != 64 or (size == 4 and _upper_is_zero(start))
            found[name] = min(found.get(name, 64), 32 if halved else 64)
    return dict(sorted(found.items()))


def _written_flags(body: Sequence[Instruction]) -> list[str]:
    """The flags that the body writes or leaves undefined."""
    outputs = {op.output.name for i in body for op in i.ops if op.output is not None}
    undefined = {flag for instruction in body for flag in undefined_flags(instruction)}
    return [name for name in FLAGS if name in outputs | undefined]


def _execute(
    machine: Machine, body: Sequence[Instruction], registers: Registers
) -> tuple[_Body, Jump | None]:
    port = _Body(machine, registers)
    jump = None
    for instruction in body:
        if jump is not None:
            raise _NotCounted
        jump = execute_plain(machine, instruction, port)
    return port, jump


def execute_plain(machine: Machine, instruction: Instruction, port: Port) -> Jump | None:
    """A plain instruction, and then what the manual leaves undefined after it."""
    jump = Plain(instruction, port).run()
    for flag in undefined_flags(instruction):
        port.registers.flags[flag] = machine.environment.unknown_flag(f"{flag}_undefined")
    return jump


def _upper_is_zero(value: z3.BitVecRef) -> bool:
    return number(simplify(z3.Extract(63, 32, value))) == 0


def _induction(
    machine: Machine, start: z3.BitVecRef, symbol: z3.BitVecRef, after: z3.BitVecRef
) -> _Induction | None:
    bits = symbol.size()
    step = number(simplify(low(after, bits) - symbol))
    if step is None:
        return None
    moved = _with_upper(start, simplify(symbol + const(step, bits)))
    if not machine.environment.prover.holds((), after == moved):
        return None
    return _Induction(start, symbol, step, bits)


def _iterations_left_out(machine: Machine, goes_on: z3.BoolRef) -> int:
    """The m for which the loop goes on after iterations 0 .. m - 1 and ends after iteration m."""
    known = machine.environment.counts
    if goes_on.get_id() not in known:
        known[goes_on.get_id()] = (goes_on, _count(machine, goes_on))
    return known[goes_on.get_id()][1]


def _count(machine: Machine, goes_on: z3.BoolRef) -> int:
    if set(variables(goes_on)) - {str(index_symbol)}:
        raise _NotCounted
    solver = fresh((z3.Not(goes_on), z3.ULE(index_symbol, MAX_COUNT)), RLIMIT)
    count: int | None = None
    while check(solver) == z3.sat:
        count = solver.model().eval(index_symbol, model_completion=True).as_long()
        solver.add(z3.ULT(index_symbol, count))
    before = z3.ULT(index_symbol, const(count or 0))
    if count is None or not machine.environment.prover.holds((before,), goes_on):
        raise _NotCounted
    return count


def _range_write(
    machine: Machine, address: z3.BitVecRef, value: z3.BitVecRef, count: int
) -> RangeWrite:
    """The stores of iterations 0 .. count - 1, proved to be evenly spaced."""
    base, size = machine.environment.base, value.size() // 8

    def at(index: int) -> z3.BitVecRef:
        return base.normal(simplify(z3.substitute(address, (index_symbol, const(index)))))

    first = at(0)
    stride = _distance(machine, first, at(1))
    if stride is None or stride < size or stride & (stride - 1):
        raise _NotCounted
    inside = z3.ULT(index_symbol, const(count))
    if machine.possible(z3.And(inside, address != first + index_symbol * const(stride))):
        raise _NotCounted
    _check_segments(machine, first, stride * (count - 1) + size)
    return RangeWrite(first, size, value, count, stride)


def _distance(machine: Machine, first: z3.BitVecRef, second: z3.BitVecRef) -> int | None:
    """The constant by which the second address is higher; None if it is not known."""
    if (apart := number(simplify(second - first))) is not None:
        return apart
    base = machine.environment.base
    start, end = base.offset_of(first), base.offset_of(second)
    return end - start if start is not None and end is not None else None


def _check_segments(machine: Machine, first: z3.BitVecRef, length: int) -> None:
    """In 32-bit code every store of the range must be one that the segments allow."""
    if machine.cpu.mode.bits == 64:
        return
    last = simplify(first + (length - 1))
    for name in ("ds", "es", "ss"):
        segment = machine.cpu.segments[name]
        fits = z3.And(
            segment.base == 0,
            segment.is_writable,
            z3.Not(segment.null),
            z3.Not(segment.is_expand_down),
            z3.ULE(last, low(segment.limit, 64)),
            z3.ULE(first, last),
        )
        if machine.possible(z3.Not(fits)):
            raise _NotCounted
