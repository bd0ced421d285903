# SPDX-License-Identifier: GPL-2.0-only
"""From a contract to its pair: the host's process from its object, the CPU's from the run."""

from __future__ import annotations

from collections.abc import Iterator

from harness.host.extract import extract
from harness.protocol.target import ProcessError, process_of
from harness.x86.run import Run
from models.process import Process, Value
from models.protocol import Pair
from trampoline.contract import Contract
from trampoline.host_object import HostObject
from trampoline.image import Image

MAIL = ("kernel", "boot_params")
"""The mailbox's words; the addresses of an attempt have the same names."""


def pair_of(contract: Contract, image: Image, run: Run, host: HostObject) -> Pair:
    """Both processes, and how a kernel leaves. Raises ProcessError, Refusal."""
    cpu = process_of(contract, image, run)
    for key, value in _never_written(contract, cpu):
        raise ProcessError(
            f"{contract.path}: [status] {key}: the code never writes {value:#x} to the status "
            "word; mend the value or remove the key."
        )
    process = extract(host, contract)
    shake = contract.shared.status.handshake
    if shake is not None:
        for value in _constants(process) | _constants(cpu) | {shake.free}:
            if value & ~0xFF == shake.offered:
                raise ProcessError(
                    f"{contract.path}: [status] handshake: {value:#x} in the status word is also "
                    f"the offer to APIC id {value & 0xFF:#x}; give one of them another value."
                )
    for location in process.locations:
        if location.word in MAIL and location.value is not None and location.value != location.word:
            raise ProcessError(
                f"{host.name}: {location.place}: something else than this attempt's "
                f"{location.word} goes into the mailbox's word for it."
            )
    return Pair(process, cpu, None if shake is None else (shake.running, shake.free))


def _constants(process: Process) -> set[int]:
    """The values of the status word that a process writes or looks for."""
    found: set[Value | None] = set()
    for location in process.locations:
        if location.word == "status":
            found |= {location.value, location.expected}
            found |= {value for edge in location.edges for value in (edge.when or ("", ()))[1]}
    return {value for value in found if isinstance(value, int)}


def _never_written(contract: Contract, cpu: Process) -> Iterator[tuple[str, int]]:
    """Values that the contract has the CPU write, and the CPU does not."""
    written = {location.value for location in cpu.locations if location.word == "status"}
    status = contract.shared.status
    named = {"started": status.started}
    if (refused := status.refused) is not None:
        named |= {f"refused.{key}": value for key, value in refused if value is not None}
    if (shake := status.handshake) is not None:
        named["handshake.running"] = shake.running
    yield from ((key, value) for key, value in named.items() if value not in written)


def statuses(contract: Contract, host: HostObject) -> dict[str, int]:
    """The values of the status word that have a name: STATUS_... of the host's headers, and those
    of the contract that the headers do not name."""
    named = {
        name.removeprefix("STATUS_").lower().replace("_", " "): value
        for name, value in host.constants.items()
        if name.startswith("STATUS_")
    }
    status = contract.shared.status
    more = {"started": status.started}
    if status.refused is not None:
        more |= {f"refused {key}": v for key, v in status.refused if v is not None}
    if status.handshake is not None:
        more |= {"running": status.handshake.running, "free": status.handshake.free}
    return named | {name: value for name, value in more.items() if value not in named.values()}
