# SPDX-License-Identifier: GPL-2.0-only
"""Python's end of the shared memory: commands to CPU 0, and the payload's report."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack_into, unpack_from

from harness.qemu.entry64 import registers
from harness.qemu.job import Job
from harness.qemu.placing import Placed
from harness.qemu.protocol import REGISTERS, P


@dataclass(frozen=True)
class Report:
    """What the payload of one job had stored by the time we looked."""

    registers: dict[str, int]
    magic: int | None
    values: tuple[int, ...]


class Link:
    """The machine's own part of RAM, laid out by protocol.h.

    Native 8-byte accesses ("@Q") are one move each, so that CPU 0 never sees half a doorbell.
    """

    def __init__(self, own: mmap.mmap) -> None:
        """`own`: the OWN_SIZE bytes at OWN_BASE."""
        self._own = own

    def get(self, field: str) -> int:
        """Return a field of CONTROL."""
        return self._word(P["CONTROL"], P[field])

    def _word(self, page: int, offset: int) -> int:
        return int(unpack_from("@Q", self._own, page - P["OWN_BASE"] + offset)[0])

    def _put(self, field: str, value: int) -> None:
        pack_into("@Q", self._own, P["CONTROL"] - P["OWN_BASE"] + P[field], value)

    def prepare(self, job: Job) -> None:
        """Note where CPU 1 starts, what it is handed over, and what the payload is to load."""
        pack_into(f"@{len(job.probes)}Q", self._own, P["PROBES"], *job.probes)
        self._put("PROBE_COUNT", len(job.probes))
        self._put("LOAD_RSI", job.boot_params is not None)
        start = job.base
        if job.entry is not None:
            start = P["HAND_OVER_CODE"]
            for name, value in registers(job.entry).items():
                at = P["HAND_OVER"] - P["OWN_BASE"] + REGISTERS[name]
                pack_into("@Q", self._own, at, value)
        self._put("SIPI_VECTOR", start >> 12)

    def run(self, number: int, parts: Sequence[Placed]) -> None:
        """Have CPU 0 copy `parts` in order and kick CPU 1, as command `number`."""
        report = P["REPORT"] - P["OWN_BASE"]
        self._own[report : report + mmap.PAGESIZE] = bytes(mmap.PAGESIZE)
        if len(parts) > P["COPIES_MAX"]:
            raise ValueError(f"{len(parts)} parts to copy, at most {P['COPIES_MAX']}")
        stage = P["STAGE"]
        for index, part in enumerate(parts):
            size = len(part.data)
            if stage + size > P["STAGE"] + P["STAGE_SIZE"]:
                raise ValueError("more to copy than the staging area holds")
            at = stage - P["OWN_BASE"]
            self._own[at : at + size] = part.data
            entry = P["CONTROL"] - P["OWN_BASE"] + P["COPIES"] + 24 * index
            pack_into("@3Q", self._own, entry, stage, part.address, size)
            stage += (size + 7) & ~7
        self._put("COPY_COUNT", len(parts))
        self._ring(number, P["COMMAND_RUN"])

    def collect(self, number: int) -> None:
        """Have CPU 0 stop CPU 1 with an INIT and fetch the arrival byte, as command `number`."""
        self._ring(number, P["COMMAND_COLLECT"])

    def enter(self, number: int, entry: int) -> None:
        """Have CPU 0 leave the host image for the 64-bit code at `entry`, as command `number`."""
        self._put("ENTRY", entry)
        self._ring(number, P["COMMAND_ENTER"])

    def _ring(self, number: int, command: int) -> None:
        self._put("COMMAND", command)
        self._put("DOORBELL", number)

    def done(self) -> int:
        """Return the number of the job whose payload completed, 0 if none has since the kick."""
        return self._word(P["REPORT"], P["REPORT_DONE"])

    def report(self) -> Report:
        """Read the report, as far as the payload came."""

        def word(offset: int) -> int:
            return self._word(P["REPORT"], offset)

        stage = word(P["REPORT_STAGE"])
        if stage < P["STAGE_REGISTERS"]:
            return Report({}, None, ())
        found = {name: word(offset) for name, offset in REGISTERS.items()}
        for table in ("GDTR", "IDTR"):
            at = P["REPORT"] - P["OWN_BASE"] + P[f"TABLE_{table}"]
            limit, base = unpack_from("=HQ", self._own, at)
            found[f"{table.lower()}_limit"] = limit
            found[f"{table.lower()}_base"] = base
        if stage < P["STAGE_MAGIC"]:
            return Report(found, None, ())
        loads = stage - P["STAGE_MAGIC"]
        values = tuple(word(P["REPORT_VALUES"] + 8 * index) for index in range(loads))
        return Report(found, word(P["REPORT_MAGIC"]) if self.get("LOAD_RSI") else None, values)
