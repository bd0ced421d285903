# SPDX-License-Identifier: GPL-2.0-only
"""From a contract to its pair: the host's process from its object, the CPU's from the run."""

from __future__ import annotations

from collections.abc import Iterator

from harness.host.extract import extract
from harness.protocol.target import ProcessError, process_of
from harness.x86.run import Run
from models.process import Process
from models.protocol import Pair
from trampoline.contract import Contract
from trampoline.host_object import HostObject
from trampoline.image import Image


def pair_of(contract: Contract, image: Image, run: Run, host: HostObject) -> Pair:
    """Both processes, and how a kernel leaves. Raises ProcessError, Refusal."""
    cpu = process_of(contract, image, run)
    for key, value in _never_written(contract, cpu):
        raise ProcessError(
            f"{contract.path}: [status] {key}: the code never writes {value:#x} to the status "
            "word; mend the value or remove the key."
        )
    shake = contract.status.handshake
    leave = None if shake is None else (shake.running, shake.free)
    return Pair(extract(host, contract), cpu, leave)


def _never_written(contract: Contract, cpu: Process) -> Iterator[tuple[str, int]]:
    """Values that the contract has the CPU write, and the CPU does not."""
    written = {location.value for location in cpu.locations if location.word == "status"}
    status = contract.status
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
    status = contract.status
    more = {"started": status.started}
    if status.refused is not None:
        more |= {f"refused {key}": v for key, v in status.refused if v is not None}
    if status.handshake is not None:
        more |= {"running": status.handshake.running, "free": status.handshake.free}
    return named | {name: value for name, value in more.items() if value not in named.values()}
