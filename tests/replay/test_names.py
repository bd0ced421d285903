# SPDX-License-Identifier: GPL-2.0-only
"""The inputs of a witness have names that people use, and two starts are told apart."""

from __future__ import annotations

import pytest

from harness.replay.names import first_start, in_words, second_start
from harness.solve.obligation import Witness


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rsi_upper_half_2", "rsi_upper_half_2 (upper half of RSI, undefined)"),
        ("rflags_at_entry", "RFLAGS at entry"),
        ("cr3_at_hand_over", "CR3 at hand-over"),
        ("cpu_has_long_mode", "the CPU has LONG MODE"),
        ("cpuid_max_basic", "cpuid_max_basic (highest CPUID leaf)"),
        ("cpuid_7_ecx_1", "cpuid_7_ecx_1 (of CPUID 7: ECX)"),
        ("kernel_phys_addr", "kernel_phys_addr"),
        ("tr_efer (word)", "tr_efer (word)"),
    ],
)
def test_a_name_says_what_it_is(name: str, said: str) -> None:
    assert in_words(name) == said


def test_two_symbols_never_get_one_name() -> None:
    """Two starts may come to different ones by different paths."""
    names = ("rsi_upper_half_1", "rsi_upper_half_2", "cpuid_7_ecx_1", "cpuid_7_ecx_2")
    assert len({in_words(name) for name in names}) == len(names)


def test_a_second_start_has_its_own_values_and_those_that_both_have() -> None:
    values = {"base": 1, "rflags_at_entry": 2, "rflags_at_entry_of_the_other": 3}
    witness = Witness(values, {7: 8}, ("the same path",))
    assert first_start(witness) == {"base": 1, "rflags_at_entry": 2}
    second = second_start(witness)
    assert second is not None
    assert first_start(second) == {"base": 1, "rflags_at_entry": 3}
    assert (second.entry_bytes, second.violated) == ({7: 8}, ())


def test_one_start_has_no_second_one() -> None:
    assert second_start(Witness({"base": 1}, {}, ())) is None
