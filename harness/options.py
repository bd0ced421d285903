# SPDX-License-Identifier: GPL-2.0-only
"""Types of command line options."""

from __future__ import annotations

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    """A number from 1 up."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"a number from 1 up is wanted, not {text!r}")
    return number
