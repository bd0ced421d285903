# SPDX-License-Identifier: GPL-2.0-only
"""Terms in words that people write: `base + 0x5c`, `kernel_phys_addr[38:30] << 3`."""

from __future__ import annotations

import z3

from harness.x86.terms import VECTOR, simplify

MOST = 60  # characters of a term that is still read
PAGE_SHIFT = 12
_BETWEEN = {z3.Z3_OP_BAND: " & ", z3.Z3_OP_BOR: " | ", z3.Z3_OP_BXOR: " ^ "}


class _TooMuch(Exception):
    """There is no short way to write it."""


def in_words(term: z3.ExprRef) -> str:
    """What a term is made of; "" if it is a number, or too long to be read.

    x[high:low] are bits of x; a sum is one modulo 2 to the power of the term's width.
    """
    if not z3.is_bv(term) or z3.is_bv_value(term):
        return ""
    try:
        words = _words(simplify(term))
    except _TooMuch:
        return ""
    return words if len(words) <= MOST else ""


def _words(term: z3.BitVecRef) -> str:
    kind = term.decl().kind()
    if kind == z3.Z3_OP_BNUM:
        return f"{term.as_long():#x}"
    if kind == z3.Z3_OP_UNINTERPRETED and term.num_args() == 0:
        return f"base[{PAGE_SHIFT + term.size() - 1}:12]" if _is_vector(term) else str(term)
    if kind == z3.Z3_OP_EXTRACT:
        return _bits(term)
    if kind == z3.Z3_OP_CONCAT:
        return _sum(term)
    if kind == z3.Z3_OP_BADD:
        return _added(term)
    if kind in _BETWEEN:
        return _BETWEEN[kind].join(_atom(child) for child in term.children())
    if kind in (z3.Z3_OP_BLSHR, z3.Z3_OP_BSHL) and z3.is_bv_value(term.arg(1)):
        sign = ">>" if kind == z3.Z3_OP_BLSHR else "<<"
        return f"{_atom(term.arg(0))} {sign} {term.arg(1).as_long()}"
    raise _TooMuch


def _atom(term: z3.BitVecRef) -> str:
    words = _words(term)
    return words if words.replace("_", "").isalnum() or words.endswith("]") else f"({words})"


def _is_vector(term: z3.ExprRef) -> bool:
    return str(term) == VECTOR


def _bits(term: z3.BitVecRef) -> str:
    high, low = term.params()
    if _is_vector(term.arg(0)):
        return f"base[{high + PAGE_SHIFT}:{low + PAGE_SHIFT}]"
    return f"{_atom(term.arg(0))}[{high}:{low}]"


def _sum(term: z3.BitVecRef) -> str:
    """Parts side by side are a sum of parts that are shifted."""
    found, shift, number = [], 0, 0
    for part in reversed(term.children()):
        if z3.is_bv_value(part):
            number |= part.as_long() << shift
        elif _is_vector(part) and shift == PAGE_SHIFT:
            found.append("base")
        else:
            found.append(_atom(part) + (f" << {shift}" if shift else ""))
        shift += part.size()
    if len(found) > 1 or number:
        found = [f"({one})" if " " in one and one[0] != "(" else one for one in found]
    return " + ".join([*reversed(found), *([f"{number:#x}"] if number else [])])


def _added(term: z3.BitVecRef) -> str:
    """A sum; a number that is nearer to 0 from below is subtracted."""
    numbers = [child.as_long() for child in term.children() if z3.is_bv_value(child)]
    others = [child for child in term.children() if not z3.is_bv_value(child)]
    words = [_words(one) if _is_plain(one) else _atom(one) for one in others]
    total = sum(numbers) % (1 << term.size())
    if not total:
        return " + ".join(words)
    down = (1 << term.size()) - total
    if down < total:
        return f"{' + '.join(words)} - {down:#x}"
    return f"{' + '.join(words)} + {total:#x}"


def _is_plain(term: z3.BitVecRef) -> bool:
    """It needs no parentheses in a sum: `base` is Concat(0, vector, 0)."""
    return _words(term) == "base"
