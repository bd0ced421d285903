# SPDX-License-Identifier: GPL-2.0-only
"""What a replay gave to the machine, as it stands in a verdict file: enough to replay it again.

Numbers are hexadecimal strings there, so that no reader rounds them; bytes are packed by zlib and
written in base64 (RFC 1950, RFC 4648).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from harness.qemu.job import Entry64, Injection, Job


def _number(value: object) -> object:
    return int(value, 16) if isinstance(value, str) else value


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def _unpack(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return zlib.decompress(base64.b64decode(value, validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not bytes packed by zlib in base64: {error}") from None


Hex = Annotated[int, BeforeValidator(_number), PlainSerializer(hex, return_type=str)]
Packed = Annotated[bytes, BeforeValidator(_unpack), PlainSerializer(_pack, return_type=str)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class InjectionRecord(_Record):
    """See Injection."""

    linear: Hex
    upper_halves: dict[str, Hex]
    registers: dict[str, Hex]
    rflags: Hex | None


class EntryRecord(_Record):
    """See Entry64."""

    address: Hex
    registers: dict[str, Hex]
    levels: int
    tables: Hex | None
    rflags: Hex
    cr3: Hex
    cr0: Hex
    cr4: Hex
    efer: Hex


class JobRecord(_Record):
    """A job, and the machine that it is for: see Job and Machine.

    `last`: linear address of the path's last instruction, which lies at `offset` of the image;
    `passes`: how many times the path was there before.
    """

    phys_bits: int
    lacking: tuple[str, ...]
    last: Hex
    offset: Hex
    passes: int
    image: Packed
    base: Hex
    kernel: Hex
    boot_params: Hex | None
    probes: tuple[Hex, ...]
    before: tuple[tuple[Hex, Packed], ...]
    dumps: tuple[tuple[Hex, Hex], ...]
    place_payload: bool
    status_address: Hex | None
    refusals: tuple[Hex, ...]
    injection: InjectionRecord | None
    entry: EntryRecord | None

    @property
    def job(self) -> Job:
        """The job itself."""
        fields = {name: getattr(self, name) for name in _OF_JOB}
        if self.injection is not None:
            fields["injection"] = Injection(**dict(self.injection))
        if self.entry is not None:
            fields["entry"] = Entry64(**dict(self.entry))
        return Job(**fields)


_OF_JOB = JobRecord.model_fields.keys() & Job.__dataclass_fields__.keys()


def job_record(
    job: Job, phys_bits: int, lacking: frozenset[str], last: int, offset: int, passes: int
) -> JobRecord:
    """Of a job that starts its CPU once. See JobRecord."""
    if job.again:
        raise ValueError("a job of several starts is not recorded")
    fields = {name: getattr(job, name) for name in _OF_JOB}
    fields |= {"phys_bits": phys_bits, "lacking": tuple(sorted(lacking))}
    place = {"last": last, "offset": offset, "passes": passes}
    return JobRecord.model_validate(fields | place)
