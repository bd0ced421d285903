# SPDX-License-Identifier: GPL-2.0-only
"""The way of a witness through the source, with all that changes on it, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.record import StepRecord
from harness.replay.changes import (
    Concrete,
    MemoryChanges,
    RegisterChanges,
    mode_changes,
    registers_at_end,
)
from harness.replay.places import Places, source_of, symbol_before, walk_words
from harness.replay.predict import Prediction, Predictor
from harness.solve.obligation import Obligation, Witness
from harness.x86.lift import MAX_LENGTH, lift
from harness.x86.run import Access, EndKind
from harness.x86.tables import linear_address
from harness.x86.terms import VECTOR, variables
from models.modes import Mode
from trampoline.contract import Contract
from trampoline.image import Image

__all__ = ["source_of", "story", "symbol_before"]

AT_ONCE = "the loop from here, at once"


def story(
    contract: Contract, predictor: Predictor, witness: Witness, obligation: Obligation
) -> tuple[StepRecord, ...]:
    """Each executed instruction in order, and what is violated as the last step.

    A loop that the machine summarised is one step with its iterations. Flags are left out.
    """
    prediction = predictor.predict_witness(witness)
    return tuple(_Story(contract, predictor.image, prediction).steps(witness, obligation))


class _Story:
    def __init__(self, contract: Contract, image: Image, prediction: Prediction) -> None:
        self._contract = contract
        self._image = image
        self._prediction = prediction
        self._end = end = prediction.end
        self._concrete = concrete = Concrete(prediction)
        tables = [end.state.control.cr3, *(b.values.get("cr3") for b in reversed(end.history))]
        roots = [concrete.value(cr3) for cr3 in tables if cr3 is not None]
        self._places = Places(image, prediction.given.base, prediction.image_after, roots)
        self._memory = MemoryChanges(concrete, self._places, prediction)

    def steps(self, witness: Witness, obligation: Obligation) -> Iterator[StepRecord]:
        """All steps."""
        end = self._end
        if end.history:
            registers = RegisterChanges(self._concrete, self._places, end.history[0].values)
        for number, (offset, mode_name) in enumerate(end.trace):
            mode, after, written = Mode[mode_name], end.mode, registers_at_end(end)
            if number + 1 < len(end.trace):
                after, written = Mode[end.trace[number + 1][1]], end.history[number + 1].values
            changes = mode_changes(mode, after) + registers.update(written, after)
            yield from self._step(offset, mode, end.accesses_of(number), tuple(changes))
        yield self._last(witness, obligation)

    def _step(
        self, offset: int, mode: Mode, accesses: Sequence[Access], changes: tuple[str, ...]
    ) -> Iterator[StepRecord]:
        instruction = lift(self._image.data[offset : offset + MAX_LENGTH], offset, mode.bits)
        own = [access for access in accesses if access.instruction == offset]
        # A branch back that closes a summarised loop: the loop's stores begin at its target.
        loop = [access for access in accesses if access.instruction != offset]
        more = sum(access.count for access in own if access.stride)
        written = tuple(self._memory.words(own))
        if not loop:
            yield self._record(offset, mode, str(instruction), 1 + more, (*changes, *written))
            return
        yield self._record(offset, mode, str(instruction), 1 + more, written)
        written = tuple(self._memory.words(loop))
        count = sum(access.count for access in loop)
        yield self._record(loop[0].instruction, mode, AT_ONCE, count, (*written, *changes))

    def _record(
        self, offset: int, mode: Mode, instruction: str, count: int, changes: tuple[str, ...]
    ) -> StepRecord:
        return StepRecord(
            offset=f"{offset:#x}",
            mode=mode.value,
            symbol=symbol_before(self._image, offset),
            source=source_of(self._image, offset),
            instruction=instruction,
            count=count,
            changes=changes,
        )

    def _last(self, witness: Witness, obligation: Obligation) -> StepRecord:
        end = self._end
        changes = (*self._violated(witness, obligation), *self._where(witness, obligation))
        return self._record(
            end.instruction, end.mode, f"end: {end.words}", 0, (*changes, *self._outcome())
        )

    def _violated(self, witness: Witness, obligation: Obligation) -> Iterator[str]:
        """The violated conditions, each with the values that it speaks of."""
        for sentence in witness.violated:
            named = dict.fromkeys(sorted(variables(obligation.goals[sentence])))
            shown = {name: witness.values[name] for name in named if name in witness.values}
            if VECTOR in shown:
                shown = {"base": shown.pop(VECTOR) << 12, **shown}
            values = ", ".join(f"{name} = {value:#x}" for name, value in shown.items())
            yield f"violated: {sentence}" + (f" ({values})" if values else "")

    def _where(self, witness: Witness, obligation: Obligation) -> Iterator[str]:
        """Where the addresses lead that the violated conditions speak of."""
        addresses = []
        if obligation.probe is not None:
            addresses.append(self._concrete.value(obligation.probe))
        if any(str(linear_address) in variables(obligation.goals[s]) for s in witness.violated):
            addresses.append(witness.values[str(linear_address)])
        control = self._end.state.control
        if not self._end.paged:
            return
        for linear in addresses:
            yield "translation of " + walk_words(
                self._places,
                linear,
                self._concrete.value(control.cr3),
                self._concrete.value(control.efer),
                witness.values["cpu_has_1gib_pages"],
                witness.values["maxphyaddr"],
            )

    def _outcome(self) -> Iterator[str]:
        """What host and kernel find."""
        state, value = self._end.state, self._concrete.value
        if self._end.kind is EndKind.HAND_OFF:
            selectors = {name: state.segments[name].selector for name in ("cs", "ds", "es", "ss")}
            shown = {"rip": state.rip, "rsi": state.registers["rsi"], **selectors}
            shown |= vars(state.control)
            yield ", ".join(f"{name.upper()} = {value(term):#x}" for name, term in shown.items())
        if (status := self._contract.status) is not None:
            word = self._image.symbols[status.word]
            holds = int.from_bytes(self._prediction.image_after[word : word + 4], "little")
            yield f"the status word {status.word} holds {holds:#x}"
