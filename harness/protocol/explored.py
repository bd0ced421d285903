# SPDX-License-Identifier: GPL-2.0-only
"""The explorer's states: plain values, attempts by their numbers."""

from __future__ import annotations

from typing import NamedTuple

from harness.protocol.history import Attempt

OUTSIDE, WAITS, KERNEL = "outside", "waits", "kernel"


class Store(NamedTuple):
    """A store that is not visible yet. `attempt`: what its CPU had begun; 0: none, or the host."""

    word: str
    value: object
    attempt: int


class Cpu(NamedTuple):
    """A CPU: as in `models.protocol.Cpu`, with attempts as numbers from 1 on."""

    at: int | str = OUTSIDE
    buffer: tuple[Store, ...] = ()
    kernel: int = 0
    boot_params: int = 0
    began: int = 0
    kick: int = 0
    kicked: bool = False


class State(NamedTuple):
    """Everything. What names CPU n is ("offer", n); a mailbox word holds an attempt's number."""

    at: int = 0
    buffer: tuple[Store, ...] = ()
    owner: object = 0
    status: object = 0
    kernel: int = 0
    boot_params: int = 0
    marked: int = 0
    """The attempt whose target wrote the status word; 0: somebody else did."""
    attempts: tuple[Attempt, ...] = ()
    cpus: tuple[Cpu, ...] = ()
    strays: int = 0
    """INITs so far that the host has not sent."""


def with_cpu(state: State, number: int, cpu: Cpu) -> State:
    """The state with another CPU `number`."""
    return state._replace(cpus=(*state.cpus[:number], cpu, *state.cpus[number + 1 :]))


def with_attempt(state: State, number: int, attempt: Attempt) -> State:
    """The state with another history of attempt `number`, from 1 on."""
    attempts = (*state.attempts[: number - 1], attempt, *state.attempts[number:])
    return state._replace(attempts=attempts)


def initialised(cpu: Cpu) -> Cpu:
    """The CPU after INIT. Its buffer stays."""
    return Cpu(at=WAITS, buffer=cpu.buffer, kick=cpu.kick, kicked=cpu.kicked)


def visible(state: State, store: Store, marked: int) -> State:
    """Memory after a store. `marked`: the attempt whose target made it, or 0."""
    if store.word == "tables":
        return state
    if store.word == "status":
        state = state._replace(marked=marked)
        return state._replace(status=store.value)
    assert isinstance(store.value, int)
    if store.word == "kernel":
        return state._replace(kernel=store.value)
    return state._replace(boot_params=store.value)


def loaded(cpu: Cpu, word: str, read: object) -> Cpu:
    """The CPU after it has loaded a word of the mailbox."""
    assert isinstance(read, int)
    return cpu._replace(kernel=read) if word == "kernel" else cpu._replace(boot_params=read)
