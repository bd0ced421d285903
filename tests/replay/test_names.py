# SPDX-License-Identifier: GPL-2.0-only
"""The inputs of a witness have names that people use, and two starts are told apart."""

from __future__ import annotations

import pytest

from harness.replay.names import first_start, in_words, named, second_start
from harness.solve.obligation import Witness


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rsi_upper_half_68", "upper half of RSI (undefined)"),
        ("rflags_at_entry", "RFLAGS at entry"),
        ("cr3_at_hand_over", "CR3 at hand-over"),
        ("cpu_has_long_mode", "the CPU has LONG MODE"),
        ("cpuid_max_basic", "highest basic CPUID leaf"),
        ("cpuid_7_ecx_15", "CPUID 7: ECX"),
        ("kernel_phys_addr", "kernel_phys_addr"),
        ("tr_efer (word)", "tr_efer (word)"),
    ],
)
def test_a_name_says_what_it_is(name: str, said: str) -> None:
    assert in_words(name) == said


def test_two_values_never_get_one_name() -> None:
    values = {"rsi_upper_half_68": "0x1", "rsi_upper_half_70": "0x2", "offset": "0x3"}
    assert named(values) == {
        "upper half of RSI (undefined), rsi_upper_half_68": "0x1",
        "upper half of RSI (undefined), rsi_upper_half_70": "0x2",
        "offset": "0x3",
    }


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
