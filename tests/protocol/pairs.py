# SPDX-License-Identifier: GPL-2.0-only
"""Pairs written down by hand: the RFC's, and the hardened one of trampoline/PROTOCOL.md."""

from __future__ import annotations

from dataclasses import replace

from models.process import Edge, Kind, Location, Process, Value
from models.protocol import Pair

FREE = 0
HELD = 0x0EEE_EEEE
STARTED = 0xA5A5_A5A5
RUNNING = 0xB000_0001
GIVEN_UP = 0xD000_0001
REFUSED_KERNEL, REFUSED_BOOT_PARAMS, REFUSED_CPU = 0xE000_0001, 0xE000_0002, 0xE000_0003
REFUSED = (REFUSED_KERNEL, REFUSED_BOOT_PARAMS, REFUSED_CPU)


def otherwise(target: int, *values: Value) -> Edge:
    return Edge(target, ("is not", values))


def when(target: int, *values: Value) -> Edge:
    return Edge(target, ("is", values))


class Writer:
    """Writes a process down; places have names, and the next one follows if nothing is said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[tuple[Location, list[tuple[str, Edge]]]] = []
        self.names: dict[str, int] = {}

    def at(self, place: str) -> None:
        self.names[place] = len(self.rows)

    def do(
        self,
        kind: Kind,
        word: str = "",
        value: Value | None = None,
        expected: Value | None = None,
        to: tuple[tuple[str, tuple[str, tuple[Value, ...]] | None], ...] = (),
        paged: bool = False,
    ) -> None:
        ends = kind in (Kind.JUMP, Kind.PARK, Kind.RETURN)
        edges = [(place, Edge(-1, condition)) for place, condition in to]
        if not edges and not ends:
            edges = [("", Edge(len(self.rows) + 1))]
        self.rows.append((Location(kind, (), word, value, expected, paged), edges))

    def done(self) -> Process:
        return Process(
            self.name,
            tuple(
                replace(
                    location,
                    place=f"{self.name} {number}",
                    edges=tuple(
                        replace(edge, target=self.names[place]) if place else edge
                        for place, edge in edges
                    ),
                )
                for number, (location, edges) in enumerate(self.rows)
            ),
        )


def rfc_host() -> Process:
    host = Writer("host")
    host.do(Kind.BEGIN)
    host.do(Kind.STORE, "kernel", "kernel")
    host.do(Kind.STORE, "boot_params", "boot_params")
    host.do(Kind.FENCE)
    host.do(Kind.INIT)
    host.do(Kind.SIPI)
    host.do(Kind.STORE, "status", FREE)
    host.do(
        Kind.LOAD, "status",
        to=(("started", ("is", (STARTED,))), ("nothing", ("is not", (STARTED,)))),
    )  # fmt: skip
    host.at("started")
    host.do(Kind.CONCLUDE, value="started", to=(("end", None),))
    host.at("nothing")
    host.do(Kind.CONCLUDE, value="not responding", to=(("end", None),))
    host.at("end")
    host.do(Kind.RETURN)
    return host.done()


def rfc_cpu() -> Process:
    cpu = Writer("CPU")
    cpu.do(Kind.STORE, "status", STARTED)
    cpu.do(Kind.FENCE)
    cpu.do(Kind.STORE, "tables")
    cpu.do(Kind.FENCE)
    cpu.do(Kind.LOAD, "boot_params", paged=True)
    cpu.do(Kind.LOAD, "kernel", paged=True)
    cpu.do(Kind.STORE, "tables", paged=True)
    cpu.do(Kind.JUMP, paged=True)
    return cpu.done()


def hardened_host(
    anyone_after: tuple[int, ...] = (FREE,), ran: tuple[int, ...] = (RUNNING, FREE)
) -> Process:
    """`anyone_after`: with which status words any CPU may be kicked. `ran`: what the wait takes
    for "running"."""
    host = Writer("host")
    host.do(Kind.BEGIN)
    host.do(
        Kind.LOAD, "status",
        to=(("fresh", ("is", anyone_after)), ("whose", ("is not", anyone_after))),
    )  # fmt: skip
    host.at("whose")
    host.do(
        Kind.LOAD, "owner", to=(("again", ("is", ("offer",))), ("busy", ("is not", ("offer",))))
    )
    host.at("busy")
    host.do(Kind.CONCLUDE, value="busy", to=(("end", None),))
    for name, withdrawn in (("fresh", FREE), ("again", GIVEN_UP)):
        host.at(name)
        host.do(Kind.STORE, "owner", "offer")
        host.do(Kind.EXCHANGE, "status", HELD)
        host.do(Kind.STORE, "kernel", "kernel")
        host.do(Kind.STORE, "boot_params", "boot_params")
        host.do(Kind.EXCHANGE, "status", "offer")
        host.do(Kind.INIT)
        host.do(Kind.SIPI)
        host.at(f"wait {name}")
        host.do(
            Kind.LOAD, "status",
            to=(
                ("running", ("is", ran)),
                ("refused", ("is", REFUSED)),
                (f"wait {name}", ("is not", (*ran, *REFUSED))),
                (f"time-out {name}", ("is not", (*ran, *REFUSED))),
            ),
        )  # fmt: skip
        host.at(f"time-out {name}")
        host.do(
            Kind.COMPARE_EXCHANGE, "status", withdrawn, "offer",
            to=(("nothing", ("is", ("offer",))), (f"give up {name}", ("is not", ("offer",)))),
        )  # fmt: skip
        host.at(f"give up {name}")
        host.do(
            Kind.COMPARE_EXCHANGE, "status", GIVEN_UP, STARTED,
            to=(("stuck", ("is", (STARTED,))), (f"wait {name}", ("is not", (STARTED,)))),
        )  # fmt: skip
    for name, verdict in (
        ("running", "running"), ("refused", "refused"), ("nothing", "not responding"),
        ("stuck", "stuck"),
    ):  # fmt: skip
        host.at(name)
        host.do(Kind.CONCLUDE, value=verdict, to=(("end", None),))
    host.at("end")
    host.do(Kind.RETURN)
    return host.done()


def hardened_cpu(leaves: bool = False) -> Process:
    """`leaves`: a CPU that was given up frees the area before it halts."""
    cpu = Writer("CPU")

    def change(expected: Value, new: Value, done: str, failed: str, paged: bool = False) -> None:
        to = ((done, ("is", (expected,))), (failed, ("is not", (expected,))))
        cpu.do(Kind.COMPARE_EXCHANGE, "status", new, expected, to, paged)

    change("offer", STARTED, "check", "park")
    cpu.at("check")
    cpu.do(Kind.FENCE, to=(("refuse cpu", None), ("tables", None)))
    cpu.at("tables")
    cpu.do(Kind.STORE, "tables")
    cpu.do(Kind.FENCE)
    cpu.do(Kind.LOAD, "boot_params", paged=True)
    cpu.do(Kind.LOAD, "kernel", paged=True, to=(("entry", None), ("refuse", None)))
    cpu.at("entry")
    cpu.do(Kind.STORE, "tables", paged=True)
    change(STARTED, RUNNING, "jump", "given up", paged=True)
    cpu.at("jump")
    cpu.do(Kind.JUMP, paged=True)
    cpu.at("refuse cpu")
    change(STARTED, REFUSED_CPU, "park", "park")
    cpu.at("park")
    cpu.do(Kind.PARK)
    cpu.at("refuse")
    change(STARTED, REFUSED_KERNEL, "halt", "given up", paged=True)
    cpu.at("given up")
    if leaves:
        change(GIVEN_UP, FREE, "halt", "halt", paged=True)
    cpu.at("halt")
    cpu.do(Kind.PARK, paged=True)
    return cpu.done()


LEAVE = (RUNNING, FREE)
RFC = Pair(rfc_host(), rfc_cpu())
HARDENED = Pair(hardened_host(), hardened_cpu(), LEAVE)
ANYONE_AFTER_REFUSAL = Pair(hardened_host(anyone_after=(FREE, *REFUSED)), hardened_cpu(), LEAVE)
"""The area goes to another CPU after a refusal, on whose tables a CPU still halts."""
LEAVES_WHEN_GIVEN_UP = Pair(hardened_host(), hardened_cpu(leaves=True), LEAVE)
"""... after a CPU that was given up has said so."""
BLIND_TO_FREE = Pair(hardened_host(ran=(RUNNING,)), hardened_cpu(), LEAVE)
"""The host that waits does not know that the kernel may have left already."""
