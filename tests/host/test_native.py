# SPDX-License-Identifier: GPL-2.0-only
"""What is refuted of a host's load and kick is seen when the same object runs on this CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.host import area, image, kicking, waiting
from harness.host.area import setup_obligations
from harness.host.claims import UserMemory, decide_all, kick_obligations
from harness.host.image import image_obligations
from harness.native.build import NativeError
from harness.native.refutation import Refutation, refutations, replay_scene, show
from harness.native.run import Native
from harness.native.scene import Image, Scene, Segment, Target
from harness.native.scenes import DEFAULTS, kick_scene, load_scene, setup_scene
from harness.native.shown import SHOWS
from harness.record import Evidence
from harness.solve.decide import decide
from harness.solve.obligation import Obligation
from tests.host.conftest import Change
from tests.host.test_extract import contract_of
from trampoline.host_object import HOST_FOLDER, HostObject


def found(host: HostObject, obligations: list[Obligation]) -> dict[str, Refutation]:
    results = decide_all(obligations)
    with Native(host) as native:
        return {one.goal: one for one in refutations(native, results)}


@pytest.fixture(scope="module")
def of_the_rfc(rfc: HostObject) -> dict[str, Refutation]:
    return found(
        rfc,
        [
            *setup_obligations(rfc, contract_of("multikernel_rfc")),
            *image_obligations(rfc),
            *kick_obligations(rfc, contract_of("multikernel_rfc")),
        ],
    )


@pytest.fixture(scope="module")
def native(hardened: HostObject) -> Iterator[Native]:
    with Native(hardened) as running:
        yield running


SEEN = {
    area.RESERVED: "reserve(0x90000, 0x91000) was called; the area is 0x1000 bytes at 0x90000",
    image.TYPE: "the load returned 0, and the image to start has type 0",
    image.ENTRY: "the load returned 0, and its entry 0x0 lies in no segment",
    image.SET_ASIDE: "physical memory from 0x1000000 to 0x1000fff was written, which is not "
    "reserved for other kernels",
    image.AREA: "physical memory from 0x90000 to 0x90fff was written, in the trampoline area",
    image.DAMAGED: "the load returned -14, physical memory from 0x1000000 to 0x1000ffe was "
    "written, and the image loaded before is still there to start",
    kicking.TYPE: "INIT was sent to start an image of type 0",
    kicking.TAKEN: "INIT was sent to APIC id 0x1 again, which had started another kernel",
    kicking.OFFERED: "the status word was 0x0 when INIT was sent, for whatever CPU comes",
    waiting.UNDONE: "the wait returned 5, and a warm reset still leads to 0x90000",
}


@pytest.mark.parametrize("goal", SEEN)
def test_each_refutation_of_the_rfc_is_seen(goal: str, of_the_rfc: dict[str, Refutation]) -> None:
    replay = of_the_rfc[goal].replay
    assert (replay.evidence, replay.observed["seen"]) == (Evidence.CONFIRMED, SEEN[goal])


def test_no_other_goal_of_the_rfc_is_refuted(of_the_rfc: dict[str, Refutation]) -> None:
    assert set(of_the_rfc) == set(SEEN) == set(SHOWS)


def test_a_witness_differs_from_a_sound_image_in_one_thing(
    of_the_rfc: dict[str, Refutation],
) -> None:
    assert of_the_rfc[image.TYPE].inputs == {
        "trampoline area": "0x9000 bytes at 0x90000",
        "type": "0",
        "entry": "0x1000000",
        "segment 0": "0x1000 bytes from 0x10000, for 0x1000 bytes at 0x1000000",
        "reserved for kernels": "0x1000 bytes at 0x1000000",
        "used by the host": "nothing",
        "done": "load",
    }


SOUND = DEFAULTS | {"reserved_for_kernels": 1}
WITNESSES = {
    image.TYPE: SOUND | {"type": 0},
    image.ENTRY: SOUND | {"entry": 0},
    image.SET_ASIDE: SOUND | {"reserved_for_kernels": 0},
    image.AREA: SOUND | {"mem": 0x9_0000, "entry": 0x9_0000},
    image.DAMAGED: SOUND | {"old_image": 1, "load_segment_result": 2**32 - 14},
    area.RESERVED: SOUND,
    kicking.TYPE: SOUND | {"image_type": 0},
    kicking.TAKEN: SOUND,
    kicking.OFFERED: SOUND,
    waiting.UNDONE: SOUND,
}


@pytest.mark.parametrize("goal", WITNESSES)
def test_the_same_input_shows_nothing_on_the_hardened_host(goal: str, native: Native) -> None:
    replay = replay_scene(native, goal, SHOWS[goal].scene(native.host, WITNESSES[goal]))
    assert (replay.evidence, replay.reason) == (Evidence.CONTRADICTED, "the run does not show it")


@pytest.mark.parametrize("goal", [goal for goal in WITNESSES if WITNESSES[goal] != SOUND])
def test_a_sound_input_shows_nothing_on_the_rfcs_host(goal: str, rfc: HostObject) -> None:
    with Native(rfc) as running:
        replay = replay_scene(running, goal, SHOWS[goal].scene(rfc, SOUND))
    assert replay.evidence is Evidence.CONTRADICTED


MISTAKES = {
    image.TYPE: ("multikernel/load.c", "if (image->type == TYPE_MULTIKERNEL)", ""),
    image.DAMAGED: ("multikernel/load.c", "\t\thost->image = NULL;\n", ""),
    image.SET_ASIDE: ("multikernel/load.c", "used_by_host(one->mem, one->memsz)", "0"),
    image.AREA: ("multikernel/load.c", "host->area.base, host->area.size)", "host->area.base, 0)"),
    kicking.TAKEN: ("multikernel/kick.c", "\tif (host->taken[apic_id])\n\t\tgoto out;\n", ""),
    waiting.UNDONE: (
        *("multikernel/kick.c", "\twarm_reset_undo();\n\tunlock(host);\n\treturn verdict;"),
        "\tunlock(host);\n\treturn verdict;",
    ),
}


@pytest.mark.parametrize("goal", [image.TYPE, image.DAMAGED, kicking.TAKEN, waiting.UNDONE])
def test_a_mistake_in_the_hardened_host_is_found_and_seen(goal: str, changed: Change) -> None:
    host = changed("multikernel", *MISTAKES[goal])
    obligations = image_obligations(host)
    if goal in (kicking.TAKEN, waiting.UNDONE):
        obligations = list(kick_obligations(host, contract_of("multikernel")))
    replay = found(host, obligations)[goal].replay
    assert replay.evidence is Evidence.CONFIRMED


@pytest.mark.parametrize("goal", [image.SET_ASIDE, image.AREA])
def test_a_check_that_is_gone_lets_memory_be_written(goal: str, changed: Change) -> None:
    values = WITNESSES[goal]
    if goal == image.SET_ASIDE:
        values = SOUND | {"used_by_host": 1}
    host = changed("multikernel", *MISTAKES[goal])
    with Native(host) as running:
        replay = replay_scene(running, goal, load_scene(host, values))
    assert replay.evidence is Evidence.CONFIRMED


def test_memory_is_the_buffer_then_zeros(native: Native) -> None:
    segment = Segment(buf=0x1_0000, bufsz=0x1234, mem=0x200_0000, memsz=0x3000)
    scene = Scene(
        ("load",),
        area=(0x9_0000, 0x1000),
        image=Image(2, 0x200_0000, (segment,)),
        reserved=((0x200_0000, 0x3000),),
    )
    run = native.run(scene.lines())
    assert [e["result"] for e in run.did("load")] == [0]
    assert run.changed == [(0x200_0000, 0x200_3000)]
    copies = [call["arguments"] for call in run.calls("copy_from_user")]
    assert copies == [[0x1_0000, 0x1000], [0x1_1000, 0x234], [0x1_1234, 0]]


def test_the_hardened_kick_is_played_to_its_verdict(native: Native) -> None:
    scene = replace(kick_scene(native.host, SOUND), actions=("kick", "wait", "kick"))
    run = native.run(scene.lines())
    assert [e["result"] for e in run.events if "did" in e] == [0, 1, -16]
    assert [call["status"] for call in run.calls("send_init")] == [0x1000_0001]


def test_a_cpu_that_cannot_be_reached_is_an_error(native: Native) -> None:
    target = Target(cpu=3, apic_id=3, init=2**32 - 22)
    scene = replace(kick_scene(native.host, SOUND), target=target)
    run = native.run(scene.lines())
    assert [e["result"] for e in run.did("kick")] == [-22]
    assert not run.calls("send_sipi")


def test_what_cannot_be_played_is_said(rfc: HostObject) -> None:
    (obligation, *_) = (o for o in image_obligations(rfc) if image.AREA in o.goals)
    witness = decide(obligation, UserMemory()).witness
    assert witness is not None
    too_many = replace(witness, values={**witness.values, "nr_segments": 17})
    with Native(rfc) as running:
        replay = show(running, image.AREA, obligation, too_many).replay
    assert replay.evidence is Evidence.NOT_REPLAYABLE
    assert replay.reason == "an image has no room for so many segments"


ZEROS = "zero_bytes(page + offset + copied, piece - copied);"


def test_a_crash_is_one_sentence(changed: Change) -> None:
    host = changed("multikernel", "segment.c", ZEROS, "zero_bytes(page, 2 * PAGE_SIZE);")
    with Native(host) as running:
        replay = replay_scene(running, image.TYPE, load_scene(host, SOUND))
    assert replay.evidence is Evidence.CONTRADICTED
    assert replay.reason == (
        "multikernel: crashed (SIGSEGV) after it called copy_from_user(0x10000, 0x1000)."
    )


HANG = 'asm volatile("1: jmp 1b");'


def test_a_run_has_a_time_limit(changed: Change) -> None:
    host = changed("multikernel", "segment.c", ZEROS, HANG)
    with (
        Native(host) as running,
        pytest.raises(NativeError, match=r"did not end within 1 s after it called copy_from_user"),
    ):
        running.run(load_scene(host, SOUND).lines(), seconds=1)


PARENT = """
import sys
from harness.native.run import Native
from harness.native.scenes import DEFAULTS, load_scene
from trampoline.host_object import load_host
from pathlib import Path
host = load_host(Path(sys.argv[1]))
with Native(host) as native:
    native.run(load_scene(host, DEFAULTS).lines(), seconds=60)
"""


def test_the_child_ends_with_its_parent(changed: Change, tmp_path: Path) -> None:
    changed("multikernel", "segment.c", ZEROS, HANG)
    folder = str(tmp_path / "host" / "multikernel")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, folder], cwd=HOST_FOLDER.parent.parent)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    child = 0
    for _ in range(300):
        for pid in map(int, children.read_text().split()):
            if _name(pid) == "host":
                child = pid
        if child:
            break
        time.sleep(0.1)
    assert child, "the child was not started"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not _runs(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child runs on")


def _name(pid: int) -> str:
    """What process `pid` is called; nothing where it has ended (the compiler's are among them)."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_another_layout_is_refused(changed: Change) -> None:
    host = changed(
        "multikernel", "include/host.h", "\tu64 boot_params;\n", "\tu64 x, boot_params;\n"
    )
    with pytest.raises(NativeError, match="struct host is laid out in another way"):
        Native(host).__enter__()


def test_a_set_up_without_memory_ends_in_panic(native: Native) -> None:
    scene = setup_scene(native.host, SOUND)
    lines = tuple(line for line in scene.lines() if not line.startswith("allocate"))
    run = native.run(lines)
    assert run.calls("panic") and not run.did("setup")
