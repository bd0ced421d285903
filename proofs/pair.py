# SPDX-License-Identifier: GPL-2.0-only
"""A trampoline and its host together: verdicts on the hand-off protocol, and their records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cached_property
from typing import Protocol

from harness.host.claims import ASSUMPTIONS as ASSUMPTIONS_ON_CODE
from harness.host.claims import decide_all
from harness.native.refutation import Refutation, refutations
from harness.native.run import Native
from harness.protocol.assembled import Assembled, decide
from harness.protocol.history import Schedule
from harness.protocol.pair import pair_of, statuses
from harness.protocol.transitions import transitions
from harness.protocol.verdict import Decision
from harness.qemu.vm import QemuMissing
from harness.record import (
    ClaimRecord,
    EventRecord,
    Evidence,
    GoalRecord,
    ReplayRecord,
    SamplesRecord,
    ScheduleRecord,
    TransitionRecord,
)
from harness.schedule.evidence import sample, show
from harness.schedule.machine import Machine
from harness.schedule.subject import Parts, Subject
from harness.solve.obligation import Obligation, Verdict, worst
from harness.solve.second import SecondSolver
from models.protocol import ASSUMPTIONS, Pair
from models.protocol_claims import Claim
from proofs.golden import claim_record
from proofs.prove import recorded
from proofs.subject import Subject as Trampoline
from trampoline.contract import Contract
from trampoline.errors import UserError
from trampoline.host_object import HostObject, host_of


class Progress(Protocol):
    """Shows a line; `keep`: it is not overwritten by the next one."""

    def __call__(self, text: str, keep: bool = False) -> None:
        """Show it."""


class PairCourt:
    """Judges all claims on one pair. The six on its protocol are decided together, once."""

    def __init__(
        self,
        subject: Trampoline,
        progress: Progress,
        second: SecondSolver | None = None,
        backwards: bool = False,
    ) -> None:
        """`second` and `backwards` are as for Court."""
        self._subject = subject
        self._progress = progress
        self._second = second
        self._backwards = backwards
        self._open = ExitStack()

    def close(self) -> None:
        """End QEMU, if it was needed."""
        self._open.close()

    @cached_property
    def _host(self) -> HostObject | str:
        """The host's object; or why there is none, in a sentence."""
        try:
            return host_of(self._subject.contract)
        except UserError as error:
            return str(error)

    @cached_property
    def _pair(self) -> Pair | str:
        """The two processes; or why there are none, in a sentence."""
        if isinstance(self._host, str):
            return self._host
        self._progress("the processes of host and CPU")
        subject = self._subject
        try:
            return pair_of(subject.contract, subject.image, subject.run, self._host)
        except UserError as error:
            return str(error)

    @cached_property
    def _decision(self) -> Decision | str:
        if isinstance(self._pair, str):
            return self._pair
        self._progress("the hand-off protocol")
        contract, host = self._subject.contract, self._host
        assert not isinstance(host, str)  # there would be no pair
        decision = decide(Assembled(contract, self._pair, statuses(contract, host)))
        if decision.not_kept:
            self._progress(decision.not_kept, keep=True)
        return decision

    def protocol(self, claim: Claim) -> ClaimRecord:
        """The record of one of the six properties. The first that is asked for takes the time."""
        started = time.perf_counter()
        decision = self._decision
        sentence = claim.bad.__doc__ or ""
        if isinstance(decision, str):
            seconds = time.perf_counter() - started
            return self._record(claim.name, sentence, seconds, Verdict.UNSUPPORTED, decision)
        found = decision.verdicts[claim.name]
        breaking = {claim.name: found.schedule} if found.schedule is not None else {}
        if found.verdict == Verdict.REFUTED:
            breaking |= {n: s for n, s in decision.more.items() if n.startswith(f"{claim.name}: ")}
        schedules = [self._schedule(name, schedule) for name, schedule in breaking.items()]
        samples = self._samples if found.verdict == Verdict.PROVED else None
        seconds = time.perf_counter() - started
        return self._record(
            *(claim.name, sentence, seconds, found.verdict, found.reason),
            schedules=tuple(schedules),
            samples=samples,
            transitions=self._transitions,
        )

    def host_code(
        self,
        claim: str,
        sentence: str,
        obligations: Callable[[HostObject, Contract], Iterable[Obligation]],
    ) -> ClaimRecord:
        """The record of a claim on the host's code alone."""
        started = time.perf_counter()

        def record(verdict: str, reason: str = "", **fields: object) -> ClaimRecord:
            seconds = time.perf_counter() - started
            said = {"assumptions": ASSUMPTIONS_ON_CODE, **fields}
            return self._record(claim, sentence, seconds, verdict, reason, **said)

        host = self._host
        if isinstance(host, str):
            return record(Verdict.UNSUPPORTED, host)
        self._progress(f"{claim}: the host's code")
        try:
            judged = decide_all(obligations(host, self._subject.contract), self._backwards)
            if self._second is not None:
                judged = [(one, self._second.judge(one, result)) for one, result in judged]
            verdict = worst([result.verdict for _, result in judged])
            shown: tuple[Refutation, ...] = ()
            if verdict is Verdict.REFUTED:
                with Native(host) as native:
                    shown = refutations(native, judged)
        except UserError as error:
            return record(Verdict.UNSUPPORTED, str(error))
        failed = [f"{r.obligation}: {r.reason}" for _, r in judged if r.verdict is verdict]
        return record(
            verdict,
            "" if verdict is Verdict.PROVED else failed[0],
            obligations=tuple(recorded(result) for _, result in judged),
            goals=tuple(
                GoalRecord(goal=one.goal, inputs=one.inputs, replay=one.replay) for one in shown
            ),
        )

    def _schedule(self, breaks: str, schedule: Schedule) -> ScheduleRecord:
        pair = self._pair
        assert isinstance(pair, Pair)
        events = []
        for event in schedule.events:
            process = pair.host if event.who == "host" else pair.cpu
            where = "" if event.location is None else process.locations[event.location].place
            events.append(EventRecord(who=event.who, what=event.what, where=where))
        self._progress(f"{breaks}: replaying the schedule in QEMU")
        machine = self._machine
        if isinstance(machine, str):
            replay = ReplayRecord(
                evidence=Evidence.NOT_REPLAYED, reason=machine, predicted={}, observed={}
            )
        else:
            replay = show(machine, schedule, breaks)
        shows = breaks.partition(": ")[2]
        return ScheduleRecord(shows=shows, events=tuple(events), replay=replay)

    @cached_property
    def _samples(self) -> SamplesRecord:
        """Random schedules replayed beside the proofs."""
        self._progress("random schedules in QEMU")
        machine = self._machine
        if isinstance(machine, str):
            return SamplesRecord(
                of="random schedules", count=0, agreed=0, contradictions=(), spread={},
                milliseconds=0.0, reason=machine,
            )  # fmt: skip
        return sample(machine)

    @cached_property
    def _machine(self) -> Machine | str:
        """QEMU with both codes in it; or why there is none."""
        assert isinstance(self._pair, Pair) and not isinstance(self._host, str)
        contract, image = self._subject.contract, self._subject.image
        machine = Machine(Subject(Parts(contract, image, self._host), self._pair))
        try:
            return self._open.enter_context(machine)
        except QemuMissing as error:
            return str(error)

    @cached_property
    def _transitions(self) -> tuple[TransitionRecord, ...]:
        """What the state diagram shows; empty without a pair."""
        if isinstance(self._pair, str) or isinstance(self._host, str):
            return ()
        named = statuses(self._subject.contract, self._host)
        names: dict[object, str] = {value: name for name, value in named.items()}
        found: dict[TransitionRecord, None] = {}
        for one in transitions(self._pair):
            before, after = (names.get(v, v if isinstance(v, str) else hex(int(str(v))))
                             for v in (one.before, one.after))  # fmt: skip
            process = self._pair.host if one.who == "host" else self._pair.cpu
            what, where = "leaves", ""
            if one.location is not None:
                location = process.locations[one.location]
                what, where = location.kind.value, location.place
            record = TransitionRecord(
                before=before, after=after, who=one.who, what=what, where=where
            )
            found[record] = None
        return tuple(found)

    def _record(
        self,
        claim: str,
        sentence: str,
        seconds: float,
        verdict: str,
        reason: str = "",
        **fields: object,
    ) -> ClaimRecord:
        said: dict[str, object] = {"assumptions": ASSUMPTIONS}
        contract = self._subject.contract
        return claim_record(contract, claim, sentence, verdict, reason, seconds, **said | fields)
