# SPDX-License-Identifier: GPL-2.0-only
"""The concrete machine: takes jobs, kicks the target CPU of a running QEMU, tells what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from harness.qemu import entry64, firmware
from harness.qemu.debugger import Debugger, DebuggerError
from harness.qemu.job import BadJob, Injection, Job, Outcome, OutcomeKind
from harness.qemu.link import Link, Report
from harness.qemu.log import Logged
from harness.qemu.placing import CONVENTIONAL_END, Placed, is_ram, plan
from harness.qemu.protocol import P
from harness.qemu.vm import RESET_VECTOR, QemuFailed, VirtualMachine, VmDead

MIB = 1 << 20
GIB = 1 << 30
TARGET = 1
GOES_ON = (OutcomeKind.HAND_OFF, OutcomeKind.PARKED)  # the ends after which `again` is obeyed
LOOK_EVERY = 20e-6  # seconds between two looks at the report
LOOK_AT_STOP = 0.02  # seconds between two looks whether a breakpoint will still be met
UNRESPONSIVE = 10.0  # seconds after which a machine without CPU time counts as hanging
BOOT_TIMEOUT = 20.0  # seconds
OPTIONAL = ("lm", "pae", "pdpe1gb", "nx", "la57")
"""Features that a CPU may lack, by QEMU's names."""


class NotReached(Exception):
    """The CPU does not come to an instruction; str() is its linear address."""

    def __init__(self, linear: int) -> None:
        """Name the linear address."""
        super().__init__(f"{linear:#x}")


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds."""

    halted: float = 0.1
    """Before the target CPU is looked at: halted means parked."""
    running: float = 0.2
    """Before a CPU that does not halt counts as hanging; half of it must be QEMU's own CPU time."""
    silent: float = 5.0
    """Before a machine that does not take commands is given up."""


class Machine:
    """A persistent QEMU that replays jobs one after the other. Use it as a context manager.

    `phys_bits`: MAXPHYADDR, 36..52. `high_gib`: GiB of RAM wanted from 4 GiB on; cut to what
    `phys_bits` can address. `lacking`: features that the target CPU does not have, by QEMU's names
    ("lm", "nx"); without long mode MAXPHYADDR is 36; once entered those, too, that the host does
    not give. `logs`: linear addresses of the target CPU's instructions before which its registers
    are logged; all its stores are then, too. `accel`: "tcg", QEMU's own CPU, or "kvm", the host's.
    One thread, one process: QEMU dies with the thread that started it.
    """

    def __init__(
        self,
        phys_bits: int = 40,
        high_gib: int = 896,
        patience: Patience | None = None,
        lacking: frozenset[str] = frozenset(),
        logs: Sequence[range] = (),
        accel: str = "tcg",
    ) -> None:
        """Note what is wanted; QEMU is started on entry."""
        if not 36 <= phys_bits <= 52:
            raise ValueError(f"phys_bits {phys_bits}: 36 to 52")
        if "lm" in lacking and phys_bits != 36:
            raise ValueError(f"phys_bits {phys_bits}: 36 without long mode")
        self.phys_bits = phys_bits
        self.lacking = lacking
        high = min(high_gib * GIB, (1 << phys_bits) - 8 * GIB)
        self.ram: tuple[range, ...] = (
            range(0, CONVENTIONAL_END),
            range(MIB, P["OWN_BASE"]),
            range(P["HIGH_RAM_BASE"], P["HIGH_RAM_BASE"] + high),
        )
        """Physical windows that have RAM free for image, tables, kernel and boot_params."""
        self.restarts = 0
        self._patience = patience or Patience()
        self._logs = logs
        self._accel = accel
        self._high = high
        self._running: tuple[VirtualMachine, Link] | None = None
        self._sequence = 0
        self._leftovers: tuple[Placed, ...] = ()
        self._stands = False  # the target CPU was seen halted behind the last job

    def __enter__(self) -> Machine:
        """Start QEMU. Raises QemuMissing, QemuFailed, AssemblerMissing."""
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End QEMU."""
        self._stop()

    def has_ram(self, address: int, size: int = 8) -> bool:
        """Whether the `size` bytes from physical `address` on are free RAM of one window."""
        return is_ram(address, size, self.ram)

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Replay jobs as they come, one outcome for each, in order. Raises BadJob, QemuFailed."""
        for job in jobs:
            yield self.replay(job)

    def replay(self, job: Job) -> Outcome:
        """Replay one job; if the machine dies of it, once more on a fresh one. Raises BadJob."""
        for _ in range(2):
            try:
                return self._attempt(job)
            except (VmDead, DebuggerError):
                self._stop()
                self._start()
                self.restarts += 1
        return Outcome(OutcomeKind.DEAD)

    def stop_before(self, job: Job, linear: int, passes: int = 0) -> VirtualMachine:
        """Start the CPU once; stop all CPUs when it comes to an instruction, at a linear address,
        after so many `passes` through it. QEMU is then the caller's to look into.

        Raises NotReached if the CPU does not come there, BadJob, VmDead, DebuggerError.
        """
        vm, link = self._live
        boots, number = link.get("BOOTS"), self._next()
        self._check(job)
        parts = plan(job, number, self.ram, self.phys_bits)
        self._leftovers = parts.leftovers()
        link.prepare(job)
        debugger = vm.paused()
        link.run(number, parts.placed)
        missed = self._missed(vm, job.injection, linear, passes, boots)
        if missed is not None:
            debugger.go()
            raise NotReached(missed)
        return vm

    @property
    def boots(self) -> int:
        """How often the machine has come out of reset."""
        return self._live[1].get("BOOTS")

    def resume(self, boots: int) -> None:
        """Let all CPUs run on, behind `stop_before`, up to that many boots. Raises VmDead."""
        vm, link = self._live
        vm.debugger.go()
        self._until(lambda: link.get("BOOTS") == boots, self._patience.silent)

    def _missed(
        self, vm: VirtualMachine, injection: Injection | None, linear: int, passes: int, boots: int
    ) -> int | None:
        """Go on, over the injection, to a linear address, so many times through it; the linear
        address that is not reached."""
        there = False
        if injection is not None:
            if not self._inject(vm, injection, boots):
                return injection.linear
            there = injection.linear == linear
        for more in range(passes, -1, -1):
            if not there and not self._go_to(vm, linear, boots):
                return linear
            if more:
                self._step(vm.debugger)
            there = False
        return None

    def _check(self, job: Job) -> None:
        if job.entry is None:
            return
        entry64.check(job.entry, self.lacking)
        if self._accel != "tcg" and "pdpe1gb" in self.lacking:  # QEMU's own CPU takes them anyway
            raise BadJob("the CPU lacks 1 GiB pages, of which the tables of this hand-over are")

    def _step(self, debugger: Debugger) -> None:
        """Do the instruction at which the CPU stands. QEMU stops before it where an interrupt is
        taken first, such as the second SIPI."""
        before = debugger.registers(TARGET)
        for _ in range(2):
            debugger.go_alone(TARGET, step=True)
            debugger.stopped(self._patience.silent)
            if debugger.registers(TARGET) != before:
                return

    def logged(self) -> Logged:
        """What was logged of the last job, once its CPU stands. Raises VmDead."""
        vm, _ = self._live
        assert vm.log is not None
        if not self._stands:
            self._until(lambda: vm.cpu(TARGET).halted, self._patience.silent)
        with vm.standing_still():  # CPU 0 logs the interrupts of its timer
            return Logged(vm.log.take(), vm.high_ram)

    def _attempt(self, job: Job) -> Outcome:
        began = time.monotonic()
        vm, link = self._live
        number = self._next()
        self._check(job)
        parts = plan(job, number, self.ram, self.phys_bits)
        copies = (*self._leftovers, *parts.placed)
        self._leftovers = parts.leftovers()
        link.prepare(job)
        for start in range(1, job.again + 2):
            command = number if start == 1 else self._next()
            injection = job.injection if start == job.again + 1 else None
            ended = self._kick(job, number, command, copies, injection)
            if ended.kind not in GOES_ON:
                break
            copies = ()
        report = link.report() if ended.arrived else Report({}, None, ())
        return replace(
            ended,
            registers=report.registers,
            magic_seen=report.magic,
            magic_expected=parts.magic,
            probes_done=len(report.values),
            probe_values=report.values,
            probe_expected=parts.probes,
            memory=tuple(vm.read(address, size) for address, size in job.dumps),
            starts=start,
            seconds=time.monotonic() - began,
        )

    def _kick(
        self,
        job: Job,
        number: int,
        command: int,
        copies: Sequence[Placed],
        injection: Injection | None,
    ) -> Outcome:
        """Start the CPU once for job `number`, by `command`, and tell how that ended."""
        vm, link = self._live
        boots = link.get("BOOTS")
        debugger = vm.paused() if injection is not None else None
        link.run(command, copies)
        injected = injection is not None and self._inject(vm, injection, boots)
        if debugger is not None:
            debugger.go()
        kind, stopped_at = self._watch(job, number, command, boots)
        arrived = kind is OutcomeKind.HAND_OFF
        self._stands = kind is OutcomeKind.PARKED
        if not arrived and (job.place_payload or not self._stands):  # else nobody could arrive
            if kind is not OutcomeKind.SHUTDOWN:
                self._collect()
            byte = link.get("ARRIVED")
            arrived = byte == firmware.arrival_byte(number)
            if byte == P["WRONG_MODE"]:
                kind = OutcomeKind.WRONG_MODE
            elif arrived and kind is OutcomeKind.SHUTDOWN:
                kind = OutcomeKind.SHUTDOWN_AFTER_HAND_OFF
        return Outcome(kind, arrived, stopped_at=stopped_at, injected=injected)

    def _inject(self, vm: VirtualMachine, injection: Injection, boots: int) -> bool:
        """Go to the instruction and change the registers. Whether it was reached."""
        debugger = vm.debugger
        reached = self._go_to(vm, injection.linear, boots)
        # In other modes the breakpoint is met, too, but the debugger shows and writes less.
        cpu = vm.cpu(TARGET)
        writable = cpu.in_64_bit_mode or entry64.has_32_bits(injection)
        reached = reached and cpu.address == injection.linear and writable
        if reached:
            held = debugger.registers(TARGET)
            for name, upper in injection.upper_halves.items():
                debugger.write(TARGET, name, upper << 32 | held[name] & 0xFFFF_FFFF)
            for name, value in injection.registers.items():
                debugger.write(TARGET, name, value)
            if injection.rflags is not None:
                debugger.write_rflags(TARGET, entry64.RFLAGS | injection.rflags)
        return reached

    def _go_to(self, vm: VirtualMachine, linear: int, boots: int) -> bool:
        """From where all CPUs stand, run until one comes to a linear address. Whether one did; they
        stand again. `boots`: the machine's, before."""
        debugger, link = vm.debugger, self._live[1]
        debugger.breakpoint(linear, wanted=True)
        debugger.go()
        began, cpu_began = time.monotonic(), vm.cpu_seconds()
        reached = debugger.stopped(LOOK_AT_STOP)
        while not reached and link.get("BOOTS") == boots:
            if self._long_enough(vm, time.monotonic() - began, cpu_began):
                break
            reached = debugger.stopped(LOOK_AT_STOP)
        if not reached:
            debugger.pause()
        debugger.breakpoint(linear, wanted=False)
        return reached

    def _watch(
        self, job: Job, number: int, command: int, boots: int
    ) -> tuple[OutcomeKind, int | None]:
        """Wait for the end of job `number`; return its kind, not yet told apart by arrival."""
        vm, link = self._live
        began = time.monotonic()
        look_at = self._patience.halted
        cpu_began = 0.0
        while True:
            if link.done() == number:
                return OutcomeKind.HAND_OFF, None
            if link.get("BOOTS") != boots:
                return OutcomeKind.SHUTDOWN, None
            waited = time.monotonic() - began
            if waited < look_at and not self._refused(job):
                time.sleep(LOOK_EVERY)
                continue
            if link.get("TAKEN") != command:
                if waited > self._patience.silent:
                    raise VmDead("CPU 0 takes no command")
                time.sleep(LOOK_EVERY)
                continue
            cpu = vm.cpu(TARGET)
            ended = link.done() == number or link.get("BOOTS") != boots
            if ended or cpu.address == RESET_VECTOR:  # too late or too early a look
                if not ended and waited > self._patience.silent:
                    raise VmDead("CPU 1 does not take the SIPI")
                continue
            if cpu.halted:
                return OutcomeKind.PARKED, cpu.address
            cpu_began = cpu_began or vm.cpu_seconds()
            if self._long_enough(vm, waited, cpu_began):
                return OutcomeKind.HANG, cpu.address
            if waited >= look_at:
                look_at = waited + self._patience.halted

    def _long_enough(self, vm: VirtualMachine, waited: float, cpu_began: float) -> bool:
        """Whether a CPU that has run for so long, in seconds, will run on for ever."""
        running = self._patience.running
        if waited <= running:
            return False
        return vm.cpu_seconds() - cpu_began > running / 2 or waited > UNRESPONSIVE

    def _refused(self, job: Job) -> bool:
        """Whether the status word holds a refusal. It may be older than the run: ask the CPU."""
        if job.status_address is None or not job.refusals:
            return False
        return int.from_bytes(self._live[0].read(job.status_address, 4), "little") in job.refusals

    def _collect(self) -> None:
        _, link = self._live
        number = self._next()
        link.collect(number)
        self._until(lambda: link.get("TAKEN") == number, self._patience.silent)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    # Starting and stopping.

    def _start(self) -> None:
        vm = VirtualMachine(
            *(firmware.rom(), self.phys_bits, self._high, (self.lacking,)),
            logs=self._logs,
            accel=self._accel,
        )
        link = Link(vm.own)
        self._running = vm, link
        self._leftovers = ()
        self._stands = False
        self._sequence = 0
        try:
            self._until(lambda: link.get("BOOTS") == 1, BOOT_TIMEOUT)
            if self._accel != "tcg":
                self.lacking |= vm.without(OPTIONAL, TARGET)
        except VmDead as error:
            self._stop()
            raise QemuFailed("QEMU started, but its CPU 0 does not run the host image") from error
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running[0].close()

    def _until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait for CPU 0. Raises VmDead."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline or not self._live[0].alive():
                raise VmDead("CPU 0 does not answer")
            time.sleep(LOOK_EVERY)

    @property
    def _live(self) -> tuple[VirtualMachine, Link]:
        if self._running is None:
            raise RuntimeError("Machine is used outside of its `with` block")
        return self._running
