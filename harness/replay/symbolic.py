# SPDX-License-Identifier: GPL-2.0-only
"""Terms in words that people write: `base + 0x5c`, `kernel_phys_addr[38:30] << 3`."""

from __future__ import annotations

from typing import NamedTuple

import z3

from harness.x86.terms import VECTOR, simplify

MOST = 60  # characters that are still read
DEEPEST = 8  # terms inside each other
PAGE_SHIFT = 12
_BETWEEN = {z3.Z3_OP_BAND: " & ", z3.Z3_OP_BOR: " | ", z3.Z3_OP_BXOR: " ^ "}


class _TooMuch(Exception):
    """There is no short way to write it."""


class _Words(NamedTuple):
    """`atom`: it can stand beside any operator. `wraps`: as numbers of any width, its parts could
    come to more than the term's width holds."""

    text: str
    atom: bool = True
    wraps: bool = False

    @property
    def bracketed(self) -> str:
        """Fit to stand beside any operator."""
        return self.text if self.atom else f"({self.text})"


def in_words(term: z3.ExprRef) -> str:
    """What a term is made of; "" if it is a number, or too long to be read.

    x[high:low] are bits of x. The words mean numbers of any width, of which the whole is taken
    modulo 2 to the power of the term's width; where a part wraps around before that, its bits are
    named.
    """
    if not z3.is_bv(term) or z3.is_bv_value(term):
        return ""
    try:
        return _words(simplify(term), DEEPEST).text
    except _TooMuch:
        return ""


def _words(term: z3.BitVecRef, depth: int) -> _Words:
    if depth == 0:
        raise _TooMuch
    kind = term.decl().kind()
    if kind == z3.Z3_OP_BNUM:
        words = _Words(f"{term.as_long():#x}")
    elif kind == z3.Z3_OP_UNINTERPRETED and term.num_args() == 0:
        words = _Words(_bits_of_base(term.size() - 1, 0) if _is_vector(term) else str(term))
    elif kind == z3.Z3_OP_EXTRACT:
        words = _bits(term, depth)
    elif kind == z3.Z3_OP_CONCAT:
        words = _side_by_side(term, depth)
    elif kind == z3.Z3_OP_BADD:
        words = _sum(term, depth)
    elif kind in _BETWEEN:
        parts = [_part(child, depth) for child in term.children()]
        words = _Words(_BETWEEN[kind].join(parts), atom=False)
    elif kind in (z3.Z3_OP_BLSHR, z3.Z3_OP_BSHL) and z3.is_bv_value(term.arg(1)):
        left = kind == z3.Z3_OP_BSHL
        shifted = f"{_part(term.arg(0), depth)} {'<<' if left else '>>'} {term.arg(1).as_long()}"
        words = _Words(shifted, atom=False, wraps=left)
    else:
        raise _TooMuch
    if len(words.text) > MOST:
        raise _TooMuch
    return words


def _part(term: z3.BitVecRef, depth: int) -> str:
    """A part of a larger term, with its own value: no more than its width holds."""
    words = _words(term, depth - 1)
    return f"({words.text})[{term.size() - 1}:0]" if words.wraps else words.bracketed


def _is_vector(term: z3.ExprRef) -> bool:
    return str(term) == VECTOR


def _bits_of_base(high: int, low: int) -> str:
    return f"base[{high + PAGE_SHIFT}:{low + PAGE_SHIFT}]"


def _bits(term: z3.BitVecRef, depth: int) -> _Words:
    high, low = term.params()
    inner = term.arg(0)
    if _is_vector(inner):
        return _Words(_bits_of_base(high, low))
    name = inner.decl().kind() == z3.Z3_OP_UNINTERPRETED and inner.num_args() == 0
    words = _words(inner, depth - 1)
    return _Words(f"{words.text if name else f'({words.text})'}[{high}:{low}]")


def _side_by_side(term: z3.BitVecRef, depth: int) -> _Words:
    """Parts side by side are a sum of parts that are shifted."""
    found: list[_Words] = []
    shift, number = 0, 0
    for part in reversed(term.children()):
        if z3.is_bv_value(part):
            number |= part.as_long() << shift
        elif _is_vector(part) and shift == PAGE_SHIFT:
            found.append(_Words("base"))
        else:
            words = _part(part, depth)
            found.append(_Words(f"{words} << {shift}", atom=False) if shift else _Words(words))
        shift += part.size()
    if number:
        found.insert(0, _Words(f"{number:#x}"))
    if len(found) == 1:
        return found[0]
    return _Words(" + ".join(one.bracketed for one in reversed(found)), atom=False)


def _sum(term: z3.BitVecRef, depth: int) -> _Words:
    """A number that is nearer to 0 from below is subtracted."""
    numbers = [child.as_long() for child in term.children() if z3.is_bv_value(child)]
    others = [child for child in term.children() if not z3.is_bv_value(child)]
    words = " + ".join(_part(one, depth) for one in others)
    total = sum(numbers) % (1 << term.size())
    down = (1 << term.size()) - total
    if total:
        words += f" - {down:#x}" if down < total else f" + {total:#x}"
    return _Words(words, atom=False, wraps=True)
