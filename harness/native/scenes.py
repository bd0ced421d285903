# SPDX-License-Identifier: GPL-2.0-only
"""Scenes from witnesses: values of symbols, by their names in the obligations of a host.

What a witness does not speak of has a value that nobody minds: the defaults here, from which a
readable witness differs as little as possible; a segment that no claim speaks of is empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import z3

from harness.host.objects import AREA, COUNT
from harness.native.scene import LOW_MEMORY, PAGE, Image, Scene, Segment, Target, Unplayable
from trampoline.host_object import HostObject

MULTIKERNEL = 2  # the type of image
_KERNEL, _BASE, _SIZE = 0x100_0000, 0x9_0000, 0x9000

DEFAULTS = {
    # the load's; what a witness changes first comes first
    **{"reserved_for_kernels": 1, "used_by_host": 0, "type": MULTIKERNEL},
    **{"load_segment_result": 0, "old_image": 0},
    **{"entry": _KERNEL, "entry_in_a_segment": 1, "mem": _KERNEL, "nr_segments": 1},
    **{"buf": 0x1_0000, "bufsz": PAGE, "memsz": PAGE, "index": 0},
    **{"other_index": 0, "other_buf": 0, "other_bufsz": 0, "other_mem": 0, "other_memsz": 0},
    **{"area_base": _BASE, "area_size": _SIZE},
    # the set-up's
    **{"base": _BASE, "size": PAGE},
    # the kick's
    **{"image_type": MULTIKERNEL, "image_loaded": 1, "kernel": _KERNEL, "boot_params": 0x1_0000},
    **{"cpu": 1, "apic_id": 1, "cpu_online": 0, "apic_id_present": 1, "locked": 0},
    **{"send_init": 0, "send_sipi": 0, "send_sipi_2": 0},
}

_BASE_OF_ALL, _SIZE_OF_ALL = z3.BitVecs("base size", 64)
PLAYABLE = (
    # The area is where a set-up puts it.
    *(AREA[0] & (PAGE - 1) == 0, AREA[1] & (PAGE - 1) == 0, AREA[0] != 0, AREA[1] != 0),
    *(z3.ULE(AREA[0], LOW_MEMORY), z3.ULE(AREA[1], LOW_MEMORY - AREA[0])),
    *(_BASE_OF_ALL & (PAGE - 1) == 0, _BASE_OF_ALL != 0, z3.ULT(_BASE_OF_ALL, LOW_MEMORY)),
    z3.ULE(_SIZE_OF_ALL, LOW_MEMORY - _BASE_OF_ALL),
    *(z3.ULE(z3.BitVec(name, 64), 16 * PAGE) for name in ("memsz", "other_memsz")),
    *(COUNT != 0, z3.ULE(COUNT, 2)),
)
"""What a witness satisfies where it can, so that it can be run."""

_ENDING = re.compile(r"_\d+_-?\d+$")  # angr makes names unique by these


def plain_names(symbols: list[str]) -> dict[str, str]:
    """For each symbol the name that a reader knows; the second of a name gets a 2."""
    found: dict[str, str] = {}
    for symbol in sorted(symbols, key=_order):
        name = _ENDING.sub("", symbol)
        count = 1 + sum(_ENDING.sub("", other) == name for other in found)
        found[symbol] = name if count == 1 else f"{name}_{count}"
    return found


def _order(symbol: str) -> tuple[str, int]:
    number = re.search(r"_(\d+)_-?\d+$", symbol)
    return _ENDING.sub("", symbol), int(number.group(1)) if number else 0


Values = Mapping[str, int]
Maker = Callable[[HostObject, Values], Scene]
"""Raises Unplayable."""


def load_scene(host: HostObject, values: Values) -> Scene:
    """One load."""
    count = values["nr_segments"]
    if count > host.constants["SEGMENTS_MAX"]:
        raise Unplayable("an image has no room for so many segments")
    segments = [Segment()] * count
    spoken_of = {values["other_index"]: _segment(values, "other_")}
    spoken_of[values["index"]] = _segment(values, "")
    for number, segment in spoken_of.items():
        if number < count:
            segments[number] = segment
    image = Image(values["type"], values["entry"], tuple(segments))
    ranges = [(s.mem, s.memsz) for s in segments]
    mine = values["index"] if values["index"] < count else None
    reserved = [r for i, r in enumerate(ranges) if i != mine or values["reserved_for_kernels"]]
    used = [ranges[mine]] if mine is not None and values["used_by_host"] else []
    # An image that was loaded before lies where the new one is put.
    old = Image(MULTIKERNEL, _KERNEL, tuple(segments)) if values["old_image"] else None
    return Scene(
        ("load",),
        area=(values["area_base"], values["area_size"]),
        image=image,
        loaded=old,
        reserved=tuple(reserved),
        used=tuple(used),
        fails=_fails(host, values, segments),
    )


def _segment(values: Values, prefix: str) -> Segment:
    return Segment(*(values[prefix + name] for name in ("buf", "bufsz", "mem", "memsz")))


def _fails(
    host: HostObject, values: Values, segments: list[Segment]
) -> tuple[tuple[str, int, int], ...]:
    """The call of the platform that makes the load of a segment fail, after a byte was written."""
    result = values["load_segment_result"]
    if result == 0:
        return ()
    number = values.get("load_segment_done", 0)
    if number >= len(segments):
        raise Unplayable("a segment that the image does not have would fail")
    before = sum(segment.pages for segment in segments[:number])
    failing = segments[number]
    if result == 2**32 - host.constants["ENOMEM"]:
        return (("map_page", before + min(2, failing.pages), 0),)
    if result != 2**32 - host.constants["EFAULT"] or not failing.bufsz:
        raise Unplayable("nothing on the platform makes the load fail like this")
    return (("copy_from_user", before + 1, 1),)  # all but one byte


def setup_scene(_: HostObject, values: Values) -> Scene:
    """One set-up."""
    return Scene(("setup",), trampoline_size=values["size"], low=values["base"])


def kick_scene(_: HostObject, values: Values) -> Scene:
    """One kick, of a CPU that starts."""
    image = Image(values["image_type"], values["kernel"]) if values["image_loaded"] else None
    target = Target(
        cpu=values["cpu"],
        online=bool(values["cpu_online"]),
        apic_id=values["apic_id"],
        present=bool(values["apic_id_present"]),
        init=values["send_init"],
        sipis=(values["send_sipi"], values["send_sipi_2"]),
        starts=True,
    )
    return Scene(
        ("kick",),
        area=(values["base"], _SIZE),
        loaded=image,
        boot_params=values["boot_params"],
        target=target,
        held=bool(values["locked"]),
    )
