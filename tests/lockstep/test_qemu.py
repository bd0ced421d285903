# SPDX-License-Identifier: GPL-2.0-only
"""Shipped trampolines step by step beside QEMU's CPU; and errors that must show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.lockstep import qemu
from harness.lockstep.__main__ import main
from harness.lockstep.compare import Agreement, Mismatch, against
from harness.lockstep.emulated import Emulation
from harness.lockstep.qemu_log import read
from harness.lockstep.record import WholeRecord
from harness.qemu import vm
from harness.qemu.job import Job, Outcome
from harness.qemu.log import EVERYWHERE, Logged
from harness.qemu.machine import Machine
from harness.qemu.vm import QemuFailed
from harness.replay.cpu import NOT_RAISED
from harness.replay.platform import as_on_qemu
from harness.replay.predict import Prediction
from harness.x86.run import EndKind
from harness.x86.terms import VECTOR
from tests.lockstep.test_whole_images import SHIPPED, TRAMPOLINES, predictor
from trampoline.errors import UserError

INPUTS = 5
TIB = 1 << 40
ROM = 0xFFFF_F000


@pytest.fixture(scope="module")
def machine(needs_qemu: None) -> Iterator[Machine]:
    with qemu.logging_machine() as running:
        yield running


@pytest.mark.parametrize("name", TRAMPOLINES)
def test_each_step_of_qemus_cpu_is_foretold(name: str, machine: Machine) -> None:
    begun = Counter[int]()
    wanted = qemu.suitable(predictor(name), machine, INPUTS)
    for prediction, found in qemu.steps_in_qemu(predictor(name), machine, wanted):
        assert isinstance(found, Agreement), (dict(prediction.given.values), found)
        assert found.end
        assert found.steps == len(prediction.end.trace)
        assert found.registers > 60 * found.steps
        begun[prediction.end.entry] += 1
    entries = predictor(name).contract.entry
    assert begun == dict.fromkeys(range(len(entries)), INPUTS)


def multikernel(name: str, kernel: int, **rest: int) -> Prediction:
    words = {"kernel_phys_addr": kernel, "boot_params_phys_addr": 1 << 21}
    values = {VECTOR: 0x90, "maxphyaddr": 40, **words, **rest}
    return predictor(name).predict(as_on_qemu(predictor(name), values, {}))


@pytest.mark.parametrize(
    ("name", "kernel", "kind", "fault"),
    [
        ("multikernel_rfc", 128 * TIB, EndKind.SHUTDOWN, 13),
        ("multikernel_rfc", -0x1000 % (1 << 64), EndKind.SHUTDOWN, 14),
        ("multikernel", 128 * TIB, EndKind.PARKED, None),
    ],
)
def test_how_a_cpu_stops_is_foretold(
    name: str, kernel: int, kind: EndKind, fault: int | None, machine: Machine
) -> None:
    prediction = multikernel(name, kernel)
    assert prediction.end.kind is kind
    seen = qemu.observe(predictor(name), machine, prediction)
    assert isinstance(seen, Emulation)
    assert seen.fault == fault
    found = against(prediction, seen)
    assert isinstance(found, Agreement)
    assert found.end
    on = replace(seen, steps=[*seen.steps, seen.steps[-1]])
    assert isinstance(against(prediction, on), Mismatch)
    other = replace(seen, fault=6)
    assert isinstance(against(prediction, other), Mismatch)


def test_a_cpu_without_long_mode_is_foretold_as_far_as_qemu_lacks_it(needs_qemu: None) -> None:
    with qemu.logging_machine(36, frozenset({"lm"})) as lacking:
        refusing, faulting = (
            multikernel(name, 1 << 32, maxphyaddr=36, cpu_has_long_mode=0)
            for name in ("multikernel", "multikernel_rfc")
        )
        assert refusing.end.kind is EndKind.PARKED
        ((_, found),) = qemu.steps_in_qemu(predictor("multikernel"), lacking, [refusing])
        assert isinstance(found, Agreement)
        assert found.end
        assert faulting.end.kind is EndKind.SHUTDOWN
        left_out = qemu.observe(predictor("multikernel_rfc"), lacking, faulting)
    assert left_out == NOT_RAISED["#GP: EFER"]


def test_what_qemu_cannot_be_given_is_left_out_with_the_reason(machine: Machine) -> None:
    wanted = [multikernel("multikernel", 1 << 32, maxphyaddr=bits) for bits in (46, 40)]
    (_, left_out), (_, found) = qemu.steps_in_qemu(predictor("multikernel"), machine, wanted)
    assert left_out == "QEMU runs with MAXPHYADDR 40"
    assert isinstance(found, Agreement)


def test_a_path_that_writes_where_qemu_has_no_ram_is_left_out(machine: Machine) -> None:
    la57 = predictor("la57_posted")
    stack = {"rsp_at_hand_over": ROM}
    given = {VECTOR: 0x200, "maxphyaddr": 40, "boot_params_phys_addr": 1 << 21, **stack}
    prediction = la57.predict(as_on_qemu(la57, given, {}))
    assert any(ROM - 0x100 <= address < ROM for address in prediction.outside)
    left_out = qemu.observe(la57, machine, prediction)
    assert isinstance(left_out, str)
    assert "where QEMU has no free RAM" in left_out


@dataclass(frozen=True)
class Example:
    """An input, and QEMU's log of it."""

    prediction: Prediction
    logged: Logged

    def found(self, text: bytes | None = None) -> Mismatch | Agreement:
        """What is found of a log: QEMU's, or another text."""
        logged = self.logged if text is None else replace(self.logged, text=text)
        return against(self.prediction, qemu.as_far_as_foretold(self.prediction, read(logged)))

    def record(self, step: int) -> slice:
        """Where in the log the registers before a step stand: no instruction here is repeated."""
        seen = read(self.logged).steps[step]
        wide = seen.bits == 64
        offset = seen.address - (0 if wide else seen.registers["cs_base"])
        pointer = b"RIP=%016x " % offset if wide else b"EIP=%08x " % offset
        text = self.logged.text
        at = text.index(pointer)
        return slice(
            text.rindex(b"AX=", 0, at) - 1, text.index(b"\n", text.index(b"\nEFER=", at) + 1) + 1
        )

    def with_register(self, step: int, shown: bytes, bit: int) -> bytes:
        """The log with one bit wrong in these registers: `shown` is a pattern of what QEMU writes,
        and the group in it the number."""
        text, place = self.logged.text, self.record(step)
        match = re.search(shown, text[place], re.MULTILINE)
        assert match is not None
        wrong = b"%0*x" % (len(match[1]), int(match[1], 16) ^ bit)
        start = place.start + match.start(1)
        return text[:start] + wrong + text[start + len(wrong) :]

    def with_lines(self, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
        """The log with other lines for the image's stores."""
        text, first = self.logged.text, self.record(0).start
        lines = text[first:].splitlines(keepends=True)
        return text[:first] + b"".join(change(lines))


def example_of(name: str, machine: Machine, wanted: Callable[[Prediction], bool]) -> Example:
    prediction = next(filter(wanted, qemu.suitable(predictor(name), machine, 20)))
    job = qemu.job_for(predictor(name), machine, prediction)
    assert isinstance(job, Job)
    machine.replay(job)
    example = Example(prediction, machine.logged())
    assert isinstance(example.found(), Agreement)
    return example


@pytest.fixture(scope="module")
def start64(machine: Machine) -> Example:
    """From real mode on."""
    return example_of("start64", machine, lambda prediction: prediction.real_mode)


@pytest.fixture(scope="module")
def la57(machine: Machine) -> Example:
    """From 64-bit code to 32-bit code and back; many writes."""
    return example_of("la57", machine, lambda prediction: len(prediction.end.trace) > 50)


def step_in(example: Example, mode: str) -> int:
    """A step some way into code of this mode."""
    steps = [n for n, (_, m) in enumerate(example.prediction.end.trace) if m == mode]
    return steps[len(steps) // 2]


@pytest.mark.parametrize("mode", ["REAL16", "PROTECTED32", "COMPATIBILITY32"])
@pytest.mark.parametrize(
    ("what", "shown", "bit"),
    [
        ("rsp", rb"ESP=(\w{8})", 1),
        ("DF", rb"EFL=(\w{8})", 1 << 10),
        ("IF", rb"EFL=(\w{8})", 1 << 9),
        ("cs", rb"CS =(\w{4})", 8),
        ("ds_base", rb"DS =\w{4} (\w+)", 1 << 4),
        ("ss_limit", rb"SS =\w{4} \w+ (\w{8})", 1 << 12),
        ("cs_type", rb"CS =\w{4} \w+ \w{8} (\w{8})", 1 << 9),
        ("es_type", rb"ES =\w{4} \w+ \w{8} (\w{8})", 1 << 8),
        ("gs_s", rb"GS =\w{4} \w+ \w{8} (\w{8})", 1 << 12),
        ("fs_dpl", rb"FS =\w{4} \w+ \w{8} (\w{8})", 1 << 13),
        ("ds_present", rb"DS =\w{4} \w+ \w{8} (\w{8})", 1 << 15),
        ("cs_long", rb"CS =\w{4} \w+ \w{8} (\w{8})", 1 << 21),
        ("ss_big", rb"SS =\w{4} \w+ \w{8} (\w{8})", 1 << 22),
        ("cr0", rb"CR0=(\w{8})", 1 << 16),
        ("cr2", rb"CR2=(\w+)", 1 << 12),
        ("cr3", rb"CR3=(\w+)", 1 << 12),
        ("cr4", rb"CR4=(\w{8})", 1 << 5),
        ("efer", rb"EFER=(\w{16})", 1 << 10),
        ("gdtr_base", rb"GDT= +(\w+)", 1),
        ("gdtr_limit", rb"GDT= +\w+ (\w{8})", 1),
        ("idtr_base", rb"IDT= +(\w+)", 1),
        ("idtr_limit", rb"IDT= +\w+ (\w{8})", 1),
        ("address", rb"EIP=(\w{8})", 1),
    ],
)
def test_one_wrong_bit_in_the_log_is_found_at_its_instruction(
    mode: str, what: str, shown: bytes, bit: int, start64: Example
) -> None:
    step = step_in(start64, mode)
    found = start64.found(start64.with_register(step, shown, bit))
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (step, what)


@pytest.mark.parametrize(
    ("what", "shown", "bit"),
    [
        ("rbp", rb"RBP=(\w{16})", 1),
        ("upper half of rbx", rb"RBX=(\w{16})", 1 << 63),
        ("upper half of r9", rb"R9 =(\w{16})", 1 << 40),
        ("DF", rb"RFL=(\w{8})", 1 << 10),
        ("cr3", rb"CR3=(\w{16})", 1 << 45),
        ("address", rb"RIP=(\w{16})", 1 << 32),
    ],
)
def test_all_64_bits_count_in_64_bit_code(what: str, shown: bytes, bit: int, la57: Example) -> None:
    found = la57.found(la57.with_register(6, shown, bit))
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (6, what)


def stored(lines: list[bytes]) -> list[int]:
    """Where the first stores stand, which are pushes or parts of a copy."""
    return [n for n, line in enumerate(lines) if line.startswith(b"store")]


def swap(lines: list[bytes]) -> list[bytes]:
    one, other = stored(lines)[10:12]
    return [*lines[:one], lines[other], *lines[one + 1 : other], lines[one], *lines[other + 1 :]]


def lose(lines: list[bytes]) -> list[bytes]:
    at = stored(lines)[10]
    return [*lines[:at], *lines[at + 1 :]]


def double(lines: list[bytes]) -> list[bytes]:
    at = stored(lines)[10]
    return [*lines[:at], lines[at], *lines[at:]]


def field(number: int, change: Callable[[int], int]) -> Callable[[list[bytes]], list[bytes]]:
    """Another number in that field of a line."""

    def changed(lines: list[bytes]) -> list[bytes]:
        at = stored(lines)[10]
        fields = lines[at].split()
        fields[number] = b"%x" % change(int(fields[number], 16))
        return [*lines[:at], b" ".join(fields) + b"\n", *lines[at + 1 :]]

    return changed


@pytest.mark.parametrize(
    "change",
    [
        swap,
        lose,
        double,
        field(2, lambda size: 2 * size),
        field(3, lambda ram: ram ^ 1 << 20),
        field(4, lambda value: value ^ 0x10),
    ],
    ids=["order", "lost", "twice", "size", "another place in RAM", "value"],
)
def test_a_store_that_differs_is_found(
    change: Callable[[list[bytes]], list[bytes]], la57: Example
) -> None:
    found = la57.found(la57.with_lines(change))
    assert isinstance(found, Mismatch)
    assert found.what == "write"


def test_an_instruction_that_is_left_out_is_found(start64: Example) -> None:
    text, place = start64.logged.text, start64.record(20)
    found = start64.found(text[: place.start] + text[place.stop :])
    assert isinstance(found, Mismatch)
    assert (found.step, found.what) == (20, "address")


def test_a_log_that_ends_early_is_found_where_it_ends(start64: Example) -> None:
    found = start64.found(start64.logged.text[: start64.record(20).stop])
    assert isinstance(found, Mismatch)
    assert (found.step, found.observed) == (21, "the CPU stopped")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text, record: text[: record.stop - 3], "ends in the middle of a line"),
        (lambda text, record: text[: text.index(b"\n", record.start) + 1], "lacks part of the"),
        (lambda text, record: text[: record.stop] + b"store 12\n", "not that of QEMU 7.2"),
        (lambda text, record: text[: record.stop] + b"Linking TBs\n", "not that of QEMU 7.2"),
        (lambda text, record: text.replace(b"CS =", b"cs ="), "not that of QEMU 7.2"),
        (lambda text, record: text.replace(b"GDT=", b"GDTR="), "not that of QEMU 7.2"),
    ],
    ids=["in a line", "in a record", "in a store", "another log", "no CS", "no GDT"],
)
def test_a_log_that_is_damaged_or_another_one_is_refused(
    damage: Callable[[bytes, slice], bytes], words: str, start64: Example
) -> None:
    with pytest.raises(UserError, match=words):
        start64.found(damage(start64.logged.text, start64.record(20)))


class Mortal(Machine):
    """Its QEMU dies when a job is done."""

    def replay(self, job: Job) -> Outcome:
        outcome = super().replay(job)
        running, _ = self._live
        running._process.kill()
        return outcome


def test_a_qemu_that_dies_while_it_is_watched_is_an_error(needs_qemu: None) -> None:
    prediction = multikernel("multikernel_rfc", 1 << 32)
    with (
        Mortal(40, logs=EVERYWHERE) as machine,
        pytest.raises(QemuFailed, match="QEMU was lost while"),
    ):
        qemu.observe(predictor("multikernel_rfc"), machine, prediction)


def command(out: Path) -> int:
    contract = SHIPPED / "start64_posted" / "contract.toml"
    return main([str(contract), "--qemu", "--inputs", "1", "--out", str(out)])


def test_the_command_compares_beside_qemu_and_keeps_that(tmp_path: Path, needs_qemu: None) -> None:
    assert command(tmp_path) == 0
    path = tmp_path / "start64_posted-qemu.json"
    record = WholeRecord.model_validate_json(path.read_bytes())
    assert record.beside == qemu.name()
    assert list(record.inputs.values()) == [1, 1]
    assert record.ends == 2
    assert command(tmp_path) == 0
    assert WholeRecord.model_validate_json(path.read_bytes()) == record
    older = record.model_copy(update={"beside": "QEMU 0.9"})
    path.write_text(older.model_dump_json())
    assert command(tmp_path) == 0
    again = WholeRecord.model_validate_json(path.read_bytes())
    assert again.beside == record.beside


def test_the_command_without_qemu_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (qemu, vm):
        monkeypatch.setattr(module, "QEMU", "no-qemu-here")
    assert command(tmp_path) == 1
    assert capsys.readouterr().err == "no-qemu-here not found; install Debian's qemu-system-x86\n"
    assert list(tmp_path.iterdir()) == []
