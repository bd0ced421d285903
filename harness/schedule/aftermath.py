# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of a CPU whose tables another CPU is rewriting: beyond the schedule's last event."""

from __future__ import annotations

from harness.protocol.explored import State
from harness.protocol.history import Event
from harness.schedule.machine import Machine
from harness.schedule.stepper import Lost

_EVENTS_MAX = 20


def tables_lost(machine: Machine, state: State, last: Event) -> str:
    """After a schedule that breaks own_tables: the CPU that rewrites them goes on until they are
    cleared, then the CPU that runs on them takes one more step. One sentence."""
    paged = {n for n, one in enumerate(machine.subject.pair.cpu.locations) if one.paged}
    intruder = int(last.who.removeprefix("CPU "))
    victims = [n for n, cpu in enumerate(state.cpus) if n != intruder and cpu.at in paged]
    if not victims:
        return "no CPU runs on the tables"
    victim, before = victims[0], machine.tables()
    for _ in range(_EVENTS_MAX):
        if machine.stands_at_string(intruder + 1):
            machine.run_string(intruder + 1)
        else:
            machine.run(intruder + 1)
        if machine.tables() != before:
            break
    else:
        return f"CPU {intruder} leaves the tables as they are"
    try:
        at = machine.run(victim + 1)
    except Lost as error:
        return f"CPU {intruder} changes the tables, and CPU {victim} is lost: {error}"
    return f"CPU {intruder} changes the tables, and CPU {victim} goes on to {at:#x}"
