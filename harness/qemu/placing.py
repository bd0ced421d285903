# SPDX-License-Identifier: GPL-2.0-only
"""Decides what lies where before a kick: image, tables, payload, magic, a tag under each probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.qemu import entry64, firmware
from harness.qemu.job import BadJob, Entry64, Job
from harness.qemu.protocol import P

PAGE = 0x1000
CONVENTIONAL_END = 0xA0000  # 640 KiB
IMAGE_MAX = 0x10000
WORD = 8
UD2 = bytes((0x0F, 0x0B))


@dataclass(frozen=True)
class Placed:
    """`data` lies at physical `address`; `lasting`: nothing but a defect would change it.

    `code`: a CPU may get there by mistake.
    """

    address: int
    data: bytes
    lasting: bool
    code: bool = False

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.address + len(self.data)

    def erased(self) -> Placed:
        """Return what takes its place after the job: code that faults at once, or nothing."""
        filler = UD2 if self.code else b"\0"
        data = (filler * len(self.data))[: len(self.data)]
        return Placed(self.address, data, lasting=False)


@dataclass(frozen=True)
class Plan:
    """All that is to be copied, in order, and what the payload's loads must give."""

    placed: tuple[Placed, ...]
    magic: int | None
    probes: tuple[int | None, ...]

    def leftovers(self) -> tuple[Placed, ...]:
        """Return what the next job must erase: the payload, the tables, the magic, the tags."""
        return tuple(item.erased() for item in self.placed if item.lasting)


def plan(job: Job, sequence: int, ram: Sequence[range], phys_bits: int = 40) -> Plan:
    """Place the parts of job number `sequence`, for a CPU of that MAXPHYADDR. Raises BadJob."""
    _check(job, ram)
    image = Placed(job.base, job.image, lasting=False)
    placed = [*(Placed(address, data, lasting=False) for address, data in job.before), image]
    if job.entry is not None:
        tables = _tables(job.entry, phys_bits, ram)
        if any(_overlap(tables.address, tables.end, item) for item in placed):
            raise BadJob(f"page tables at {tables.address:#x} would overwrite image or `before`")
        placed.append(tables)
    if job.place_payload:
        code = Placed(job.kernel, firmware.payload(sequence), lasting=True, code=True)
        if not is_ram(code.address, len(code.data), ram):
            raise BadJob(f"no RAM for a payload of {len(code.data)} bytes at {job.kernel:#x}")
        for item in placed[len(job.before) :]:
            inside = item is image and code.address >= image.address
            if _overlap(code.address, code.end, item) and not inside:
                what = f"{'the image' if item is image else 'page tables'} at {item.address:#x}"
                raise BadJob(f"payload at {job.kernel:#x} would overwrite {what}")
        placed.append(code)
    for index, address in enumerate((job.boot_params, *job.probes)):
        if address is None:
            continue
        free = not any(_overlap(address, address + WORD, item) for item in placed)
        if free and is_ram(address, WORD, ram):
            placed.append(Placed(address, _tag(sequence, index), lasting=True))
    # Read back at the end: a later tag may lie where an earlier load looks in part.
    magic, *probes = (_content(placed, address) for address in (job.boot_params, *job.probes))
    return Plan(tuple(placed), magic, tuple(probes))


def _tables(entry: Entry64, phys_bits: int, ram: Sequence[range]) -> Placed:
    at = entry64.tables_at(entry)
    data = entry64.identity_tables(at, entry.levels, phys_bits)
    own = entry.tables is None
    if not own and (at % PAGE or not is_ram(at, len(data), ram)):
        raise BadJob(f"page tables at {at:#x}: not {len(data)} bytes of RAM, page aligned")
    return Placed(at, data, lasting=not own)


def is_ram(address: int, size: int, ram: Sequence[range]) -> bool:
    """Whether all `size` bytes from physical `address` on lie in one window of RAM."""
    return any(address in window and address + size - 1 in window for window in ram)


def _check(job: Job, ram: Sequence[range]) -> None:
    if not 0 < len(job.image) <= IMAGE_MAX:
        raise BadJob(f"image of {len(job.image)} bytes: at most {IMAGE_MAX}, at least one")
    end = job.base + len(job.image)
    if job.entry is None:
        if job.base % PAGE or job.base < PAGE or end > CONVENTIONAL_END:
            within = "page aligned within 0x1000..0xa0000"
            raise BadJob(f"image at {job.base:#x}..{end:#x}: not {within}")
    elif not is_ram(job.base, len(job.image), ram):
        raise BadJob(f"no RAM for the image at {job.base:#x}, {len(job.image)} bytes")
    elif not is_ram(job.entry.address, 1, ram):
        raise BadJob(f"no RAM where the CPU shall start: {job.entry.address:#x}")
    if len(job.probes) > P["PROBES_MAX"]:
        raise BadJob(f"{len(job.probes)} probes, at most {P['PROBES_MAX']}")
    if job.again < 0:
        raise BadJob(f"{job.again} more starts: not negative")
    for address in (job.kernel, job.boot_params, *job.probes):
        if address is not None and not 0 <= address < 1 << 64:
            raise BadJob(f"address {address:#x} has more than 64 bits")
    if job.injection is not None:
        entry64.check_registers(job.injection.upper_halves, 32)
        entry64.check_registers(job.injection.registers, 64)
        entry64.check_rflags(job.injection.rflags or 0)
    for address, data in job.before:
        if not is_ram(address, len(data), ram):
            raise BadJob(f"no RAM for what shall lie at {address:#x}, {len(data)} bytes")
    for address, size in job.dumps:
        if not is_ram(address, size, ram):
            raise BadJob(f"no RAM to dump at {address:#x}, {size} bytes")
    if job.refusals and (job.status_address is None or not is_ram(job.status_address, 4, ram)):
        raise BadJob("refusal values need the address of a status word in RAM")


def _overlap(start: int, end: int, item: Placed) -> bool:
    return start < item.end and item.address < end


def _content(placed: Sequence[Placed], address: int | None) -> int | None:
    if address is None:
        return None
    for item in placed:
        if item.lasting and item.address <= address and address + WORD <= item.end:
            start = address - item.address
            return int.from_bytes(item.data[start : start + WORD], "little")
    return None


def _tag(sequence: int, index: int) -> bytes:
    return (0x7A67 << 48 | (sequence & 0xFF_FFFF_FFFF) << 8 | 0x10 + index).to_bytes(WORD, "little")
