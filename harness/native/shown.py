# SPDX-License-Identifier: GPL-2.0-only
"""What must be seen in a run for the violation of a goal to be confirmed.

Each function returns what was seen, as a sentence, or "" if the run does not show it. It looks at
the record of the run and at what the scene holds, never at a solver's model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.host import area, image, kicking, waiting
from harness.native.run import Record
from harness.native.scene import PAGE, Scene
from harness.native.scenes import MULTIKERNEL, Maker, Values, kick_scene, load_scene, setup_scene
from trampoline.host_object import HostObject

Range = tuple[int, int]  # first byte, first byte behind
Seen = Callable[[HostObject, Scene, Record], str]


@dataclass(frozen=True)
class Show:
    """How a goal's violation is shown: `scene` from a witness, `seen` in its run."""

    scene: Maker
    seen: Seen


def _written(ranges: list[Range]) -> str:
    first, end = ranges[0]
    return f"physical memory from {first:#x} to {end - 1:#x} was written"


def _within(ranges: list[Range], places: list[Range]) -> list[Range]:
    """The parts of ranges that lie in one of the places."""
    parts = [(max(a, c), min(b, d)) for a, b in ranges for c, d in places]
    return [(first, end) for first, end in parts if first < end]


def _without(ranges: list[Range], places: list[Range]) -> list[Range]:
    """The parts of ranges that lie in none of the places."""
    for first, end in places:
        parts = [part for a, b in ranges for part in ((a, min(b, first)), (max(a, end), b))]
        ranges = [(a, b) for a, b in parts if a < b]
    return ranges


def _places(sizes: tuple[tuple[int, int], ...]) -> list[Range]:
    return [(start, start + size) for start, size in sizes]


def _loaded(record: Record) -> bool:
    """The load was a success, and its image is the one to start."""
    return any(e["result"] == 0 and e["image"] == "new" for e in record.did("load"))


def _not_set_aside(_: HostObject, scene: Scene, record: Record) -> str:
    if loose := _without(record.changed, _places(scene.reserved)):
        return _written(loose) + ", which is not reserved for other kernels"
    if used := _within(record.changed, _places(scene.used)):
        return _written(used) + ", which is the host's own"
    return ""


def _area(_: HostObject, scene: Scene, record: Record) -> str:
    assert scene.area is not None
    inside = _within(record.changed, _places((scene.area,)))
    return _written(inside) + ", in the trampoline area" if inside else ""


def _entry(_: HostObject, scene: Scene, record: Record) -> str:
    assert scene.image is not None
    entry = scene.image.entry
    if not _loaded(record) or any(entry - s.mem in range(s.memsz) for s in scene.image.segments):
        return ""
    return f"the load returned 0, and its entry {entry:#x} lies in no segment"


def _type(_: HostObject, scene: Scene, record: Record) -> str:
    assert scene.image is not None
    if not _loaded(record) or scene.image.type == MULTIKERNEL:
        return ""
    return f"the load returned 0, and the image to start has type {scene.image.type}"


def _damaged(_: HostObject, scene: Scene, record: Record) -> str:
    failed = [e for e in record.did("load") if e["result"] != 0 and e["image"] == "old"]
    if not failed or scene.loaded is None:
        return ""
    places = [(s.mem, s.mem + s.memsz) for s in scene.loaded.segments]
    damage = _within(record.changed, places)
    if not damage:
        return ""
    said = f"the load returned {failed[0]['result']}"
    return f"{said}, {_written(damage)}, and the image loaded before is still there to start"


def _reserved(_: HostObject, scene: Scene, record: Record) -> str:
    size = -(-scene.trampoline_size // PAGE) * PAGE
    asked = [call["arguments"] for call in record.calls("reserve")]
    if asked == [[scene.low, size]] or not record.did("setup"):
        return ""
    calls = ", ".join(f"reserve({start:#x}, {length:#x})" for start, length in asked)
    return f"{calls or 'nothing'} was called; the area is {size:#x} bytes at {scene.low:#x}"


def _kicked_type(_: HostObject, scene: Scene, record: Record) -> str:
    if scene.loaded is None or scene.loaded.type == MULTIKERNEL or not record.calls("send_init"):
        return ""
    return f"INIT was sent to start an image of type {scene.loaded.type}"


def _taken(_: HostObject, scene: Scene, record: Record) -> str:
    """Two kicks of one CPU, and nobody has stopped it between them."""
    init = [call["arguments"][0] for call in record.calls("send_init")]
    started = [e for e in record.did("kick")[:1] if e["result"] == 0]
    if not started or len(init) < 2 or init[0] != init[1]:
        return ""
    return f"INIT was sent to APIC id {init[1]:#x} again, which had started another kernel"


def _offered(host: HostObject, scene: Scene, record: Record) -> str:
    assert scene.target is not None
    offer = host.constants["STATUS_OFFERED"] + scene.target.apic_id
    found = [call["status"] for call in record.calls("send_init") if call["status"] != offer]
    if not found:
        return ""
    return f"the status word was {found[0]:#x} when INIT was sent, for whatever CPU comes"


def _vector(_: HostObject, scene: Scene, record: Record) -> str:
    """The wait is over, and the last that was done to the warm-reset vector was to set it."""
    names = ("warm_reset_set", "warm_reset_undo")
    done = [event for event in record.events if event.get("call") in names]
    ended = record.did("wait")
    if not ended or not done or done[-1]["call"] != "warm_reset_set":
        return ""
    start = done[-1]["arguments"][0]
    return f"the wait returned {ended[-1]['result']}, and a warm reset still leads to {start:#x}"


def _waited(host: HostObject, values: Values) -> Scene:
    return replace(kick_scene(host, values), actions=("kick", "wait"))


def _twice(host: HostObject, values: Values) -> Scene:
    return replace(kick_scene(host, values), actions=("kick", "wait", "kick"))


SHOWS = {
    image.SET_ASIDE: Show(load_scene, _not_set_aside),
    image.AREA: Show(load_scene, _area),
    image.ENTRY: Show(load_scene, _entry),
    image.TYPE: Show(load_scene, _type),
    image.DAMAGED: Show(load_scene, _damaged),
    area.RESERVED: Show(setup_scene, _reserved),
    kicking.TYPE: Show(kick_scene, _kicked_type),
    kicking.TAKEN: Show(_twice, _taken),
    kicking.OFFERED: Show(kick_scene, _offered),
    waiting.UNDONE: Show(_waited, _vector),
}
"""By goal. The violation of another goal is not replayed."""
