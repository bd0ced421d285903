# SPDX-License-Identifier: GPL-2.0-only
"""Which registers the code may still read: what the others hold makes no difference.

Backward data flow over single instructions, read off the same VEX code that is executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyvex

REGISTERS = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("cc_op", "cc_dep1", "cc_dep2", "cc_ndep"),  # VEX: from what the flags are computed
)
ALL = frozenset(REGISTERS)


@dataclass(frozen=True)
class _Step:
    """An instruction: registers read, registers surely written as a whole, what may come next.

    `onward` is None where control leaves the function.
    """

    reads: frozenset[str]
    writes: frozenset[str]
    onward: tuple[int, ...] | None


def live_registers(project: Any, addresses: Iterable[int]) -> dict[int, frozenset[str]]:
    """For each instruction the registers that may be read before they are written.

    `addresses` are those of all instructions. Across calls and returns everything counts as read.
    """
    steps = {address: _step(project, address) for address in addresses}
    live: dict[int, frozenset[str]] = dict.fromkeys(steps, frozenset())
    changed = True
    while changed:
        changed = False
        for address, step in reversed(steps.items()):
            if step.onward is None:
                after = ALL
            else:
                after = frozenset().union(*(live.get(target, ALL) for target in step.onward))
            now = step.reads | (after - step.writes)
            changed |= now != live[address]
            live[address] = now
    return live


def _step(project: Any, address: int) -> _Step:
    block = project.factory.block(address, num_inst=1)
    arch, code = project.arch, block.vex
    reads: set[str] = set()
    writes: set[str] = set()
    targets = []
    if isinstance(code.next, pyvex.expr.Const):
        targets.append(code.next.con.value)
    exits = False
    for statement in code.statements:
        if isinstance(statement, pyvex.stmt.Exit):
            exits = True
            targets.append(statement.dst.value)
        if isinstance(statement, pyvex.stmt.Dirty | pyvex.stmt.PutI):
            reads |= ALL
        if isinstance(statement, pyvex.stmt.Put):
            size = statement.data.result_size(code.tyenv) // 8
            writes |= {
                name
                for name in _touched(arch, statement.offset, size)
                if arch.get_register_offset(name) == statement.offset and size == 8
            }
        for expression in statement.expressions:
            if isinstance(expression, pyvex.expr.Get):
                size = expression.result_size(code.tyenv) // 8
                reads |= _touched(arch, expression.offset, size)
            elif isinstance(expression, pyvex.expr.GetI):
                reads |= ALL
    local = code.jumpkind == "Ijk_Boring" and isinstance(code.next, pyvex.expr.Const)
    # An exit in the middle may come before a register is written.
    written = frozenset() if exits else frozenset(writes)
    return _Step(frozenset(reads), written, tuple(targets) if local else None)


def _touched(arch: Any, offset: int, size: int) -> set[str]:
    """The registers that bytes of VEX's register file belong to."""
    return {
        name
        for name in REGISTERS
        if offset < arch.get_register_offset(name) + 8
        and arch.get_register_offset(name) < offset + size
    }
