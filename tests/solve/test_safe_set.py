# SPDX-License-Identifier: GPL-2.0-only
"""Safe sets: exact where they can be, never too big, and the same each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import z3

from harness.solve import throughout
from harness.solve.evaluate import compile_term
from harness.solve.obligation import Obligation
from harness.solve.recipes import Landmarks
from harness.solve.region import Box, Coordinate, box_of, number_words
from harness.solve.safe_set import SafeSet, WrongBoxError, proved, safe_set
from harness.solve.throughout import Recipe, Throughout, UndecidedError
from harness.x86.execute import execute
from harness.x86.terms import VECTOR, variables
from harness.x86.translate import UPPER_HALF
from proofs.subject import Subject
from proofs.test_hand_off import test_hand_off as hand_off_claim
from tests.solve.toys import FLAG, X, Y, Z, byte
from trampoline.contract import load_contract
from trampoline.image import load_image

TRAMPOLINES = Path(__file__).resolve().parents[2] / "trampoline"
START, SIZE = Coordinate("start", X), Coordinate("size", Z)
SWITCH = Coordinate("the flag is set", FLAG, otherwise="the flag is clear")
PAGE = 0x1000


def claim(goal: z3.BoolRef, *hypotheses: z3.BoolRef) -> Obligation:
    return Obligation("toy", hypotheses, {"the goal": goal})


def found(
    *obligations: Obligation,
    domain: Sequence[z3.BoolRef] = (),
    coordinates: Sequence[Coordinate] = (START,),
    inputs: Sequence[str] = ("x",),
    landmarks: Landmarks | None = None,
) -> SafeSet:
    return safe_set(obligations, domain, coordinates, set(inputs), landmarks)


def limits(boxes: Sequence[Box]) -> list[dict[str, tuple[int, int]]]:
    return [box.limits() for box in boxes]


def outside(result: SafeSet) -> list[dict[str, tuple[int, int]]]:
    return limits([part.box for part in result.outside])


# --- exact sets


def test_an_interval_is_found_to_the_last_value() -> None:
    result = found(claim(z3.And(z3.UGE(X, 77), z3.ULT(X, 100_003))))
    assert result.exact
    assert limits(result.inside) == [{"start": (77, 100_002)}]
    assert outside(result) == [{"start": (0, 76)}, {"start": (100_003, 0xFFFF_FFFF)}]
    assert [part.example for part in result.outside] == [{"x": 0}, {"x": 100_003}]
    assert result.sentence() == "It holds exactly for: start at or above 0x4d and below 0x1_86a3."


def test_a_derived_coordinate_says_what_plain_ones_cannot() -> None:
    """The range [x, x + z) stays in one page; y is any offset in it."""
    crossed = Coordinate("page lines crossed", z3.LShR(X + Z - 1, 12) - z3.LShR(X, 12), True)
    result = found(
        claim(z3.LShR(X + Y, 12) == z3.LShR(X, 12), z3.ULT(Y, Z)),
        domain=[z3.UGE(Z, 1), z3.ULE(Z, PAGE), z3.ULT(X, 0xFFFF_0000)],
        coordinates=[START, SIZE, crossed],
        inputs=["x", "z"],
        landmarks={"y": [Z - 1]},
    )
    assert result.sentence() == "It holds exactly for: page lines crossed = 0."
    assert result.sentence("small ranges").startswith("Of small ranges, it holds exactly for: ")
    assert outside(result) == [{"page lines crossed": (1, 0xFFFF_FFFF)}]


def test_several_obligations_and_a_flag_make_a_union() -> None:
    result = found(
        claim(z3.ULT(X, 0x10_0000), FLAG),
        claim(X != Y + 1, z3.UGE(Y, 0x4000_0000 - 1), z3.ULT(Y, Y + 1)),
        coordinates=[START, SWITCH],
        inputs=["x", "flag"],
    )
    assert result.exact
    assert result.sentence() == (
        "It holds exactly for: start below 0x10_0000 (1 MiB); "
        "or start below 0x4000_0000 (1 GiB), the flag is clear."
    )


def test_what_a_name_stands_for_is_said_once_at_the_end() -> None:
    low = Coordinate("x is low", z3.ULT(X, 64), otherwise="x is not low", note="Low: below 64")
    result = found(
        claim(z3.Or(z3.ULT(X, 64), FLAG)), coordinates=[low, SWITCH], inputs=["x", "flag"]
    )
    assert result.sentence() == (
        "It holds exactly for: the flag is set; or x is low. Low: below 64."
    )
    assert [part.box.words() for part in result.outside] == ["x is not low, the flag is clear"]


def test_what_is_proved_for_all_inputs_and_what_fails_for_all() -> None:
    assert found(claim(z3.ULE(X & Y, X))).sentence() == "It holds for every input."
    never = found(claim(X != Y))
    assert (never.sentence(), never.inside, outside(never)) == ("It holds for no input.", (), [{}])


def test_nothing_is_said_outside_the_domain() -> None:
    result = found(claim(z3.ULT(X, 100)), domain=[z3.ULT(X, 100)])
    assert (limits(result.inside), result.outside, result.exact) == ([{}], (), True)
    with pytest.raises(ValueError, match="no input satisfies the domain"):
        found(claim(X == 0), domain=[X != X])


def test_an_input_fails_if_any_value_of_any_other_symbol_makes_it_fail() -> None:
    """Memory at entry and a second symbol are needed at once, each for a part of the inputs."""
    goal = z3.Or(byte(7) == 0x5A, z3.ULT(X, 0x8000), X + 3 != Y)
    result = found(claim(goal), landmarks={"y": [X]})
    assert limits(result.inside) == [{"start": (0, 0x7FFF)}]
    assert result.exact


def test_without_a_good_landmark_the_answer_is_open_but_not_wrong() -> None:
    """y must be x with its bits mixed: a guess of constants never gets there."""
    x, y = z3.BitVec("x", 8), z3.BitVec("y", 8)
    start = [Coordinate("start", x)]
    goal = z3.Or(z3.ULT(x, 0x80), y != (x << 3) ^ x)
    assert found(claim(goal), coordinates=start, landmarks={"y": [(x << 3) ^ x]}).exact
    lost = found(claim(goal), coordinates=start)
    assert not lost.exact
    assert limits(lost.inside) == [{"start": (0, 0x7F)}]
    assert all(box["start"][0] >= 0x80 for box in limits(lost.unknown))
    assert lost.sentence() == (
        "No small union of ranges was found. It holds at least for: start below 0x80. "
        f"It does not hold for: {'; or '.join(part.box.words() for part in lost.outside)}."
    )


def test_a_set_that_is_no_small_union_is_not_exact_but_proved_from_both_sides() -> None:
    result = found(claim(z3.Or(z3.ULT(X, 100), z3.And(X & 1 == 1, z3.ULT(X, 1000)))))
    assert not result.exact
    assert {"start": (0, 99)} in limits(result.inside)
    assert {"start": (1000, 0xFFFF_FFFF)} in outside(result)
    assert all(101 <= box["start"][0] <= box["start"][1] <= 999 for box in limits(result.unknown))


# --- nothing wrong is said


def small(name: str) -> z3.BitVecRef:
    return z3.BitVec(name, 4)


@pytest.mark.parametrize("seed", range(8))
def test_every_single_input_of_random_claims_is_judged_rightly(seed: int) -> None:
    random = Random(seed)
    a, b, u = small("a"), small("b"), small("u")

    def atom() -> z3.BoolRef:
        left, right = (
            random.choice([a, b, u, a + b, a - u, b & u, z3.BitVecVal(random.randrange(16), 4)])
            for _ in range(2)
        )
        return random.choice([z3.ULT, z3.UGE, lambda p, q: p != q, lambda p, q: p == q])(
            left, right
        )

    goal = z3.Or(atom(), z3.And(atom(), atom()))
    hypothesis, domain = z3.Or(atom(), z3.ULT(u, 9)), z3.Or(z3.ULT(a, 14), z3.UGE(b, 2))
    places = [Coordinate("a", a), Coordinate("b", b), Coordinate("a + b", a + b)]
    result = safe_set([claim(goal, hypothesis)], [domain], places, {"a", "b"}, {"u": [a, b]})
    fails = compile_term(z3.And(hypothesis, z3.Not(goal)))
    allowed = compile_term(domain)
    for x in range(16):
        for y in range(16):
            point = {"a": x, "b": y, "a + b": (x + y) % 16}
            if not allowed({**point}, lambda address: 0):
                continue
            safe = not any(fails({**point, "u": v}, lambda address: 0) for v in range(16))
            parts = [
                any(box.holds(point) for box in boxes)
                for boxes in (result.inside, [o.box for o in result.outside], result.unknown)
            ]
            assert parts in ([[True, False, False], [False, False, True]] if safe else
                             [[False, True, False], [False, False, True]])  # fmt: skip


def span(low: int, high: int) -> Box:
    return box_of([START], {"start": (low, high)})


TOP = 0xFFFF_FFFF
RIGHT = ([span(50, 99)], [span(0, 49), span(100, TOP)])
WRONG = {
    "safe box, one too many below": ([span(49, 99)], RIGHT[1]),
    "safe box, one too many above": ([span(50, 100)], RIGHT[1]),
    "unsafe box, one too many above": (RIGHT[0], [span(0, 50), span(100, TOP)]),
    "unsafe box, one too many below": (RIGHT[0], [span(0, 49), span(99, TOP)]),
    "safe box, one missing below": ([span(51, 99)], RIGHT[1]),
    "safe box, one missing above": ([span(50, 98)], RIGHT[1]),
    "unsafe box, one missing": (RIGHT[0], [span(0, 49), span(101, TOP)]),
    "all safe": ([Box()], []),
    "all unsafe": ([], [Box()]),
}


def judge(inside: Sequence[Box], outside: Sequence[Box]) -> SafeSet:
    """The proof step alone, on a claim that holds for x from 50 to 99."""
    toy = Throughout([claim(z3.And(z3.UGE(X + Y, 50), z3.ULT(X, 100)), Y == 0)], [], {"x"})
    memory = z3.K(z3.BitVecSort(64), z3.BitVecVal(0, 8))
    toy.add(Recipe(0, {"y": z3.BitVecVal(0, 32)}, memory, lambda address: 0))
    return proved(toy, inside, outside, [], ["x"], {})


def test_the_proof_step_accepts_what_is_right() -> None:
    assert judge(*RIGHT).exact


@pytest.mark.parametrize("wrong", WRONG)
def test_the_proof_step_rejects_a_box_that_is_off_by_one(wrong: str) -> None:
    with pytest.raises(WrongBoxError):
        judge(*WRONG[wrong])


def test_the_proof_step_rejects_an_unsafe_box_without_an_input() -> None:
    toy = Throughout([claim(X != X)], [z3.ULT(X, 10)], {"x"})
    with pytest.raises(WrongBoxError):
        proved(toy, [], [span(0, 9), span(10, TOP)], [], ["x"], {})


def test_a_box_for_which_z3_gives_up_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(self: Throughout, box: Box) -> None:
        raise UndecidedError("too hard")

    monkeypatch.setattr(Throughout, "failure", gives_up)
    result = judge(*RIGHT)
    assert (result.inside, limits(result.unknown)) == ((), limits(RIGHT[0]))
    assert not result.exact


def test_a_recipe_that_does_not_work_proves_nothing() -> None:
    toy = Throughout([claim(X != Y)], [], {"x"})
    memory = z3.K(z3.BitVecSort(64), z3.BitVecVal(0, 8))
    toy.add(Recipe(0, {"y": X + 1}, memory, lambda address: 0))
    assert toy.escape(Box()) is not None
    toy.add(Recipe(0, {"y": X}, memory, lambda address: 0))
    assert toy.escape(Box()) is None


def test_a_recipe_must_not_leave_a_symbol_open() -> None:
    toy = Throughout([claim(X != Y)], [], {"x"})
    memory = z3.K(z3.BitVecSort(64), z3.BitVecVal(0, 8))
    with pytest.raises(ValueError, match="not among the inputs: y"):
        toy.add(Recipe(0, {}, memory, lambda address: 0))


def test_a_solver_that_gives_up_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    product = z3.ZeroExt(32, X) * z3.ZeroExt(32, Y)  # of two primes: someone has to factor it
    hard = claim(z3.Or(product != 0x7FFF_FFFF * 0x7FFF_FFED, z3.ULT(X, 2), z3.ULT(Y, 2)))
    monkeypatch.setattr(throughout, "QUICK", 2000)
    monkeypatch.setattr(throughout, "RLIMIT", 2000)
    result = found(hard)
    assert (result.exact, result.outside) == (False, ())
    monkeypatch.setattr(throughout, "BUDGET", 0)
    assert limits(found(claim(z3.ULT(X, 9))).unknown) == [{}]


def test_an_example_is_the_least_input_also_where_inputs_depend_on_each_other() -> None:
    result = found(
        claim(z3.ULT(X + Z, 1000)),
        domain=[z3.ULT(X, 5000), z3.ULT(Z, 300), z3.Or(Z == 7, z3.UGE(Z, 40)), X & 3 == 2],
        coordinates=[START, Coordinate("sum", X + Z)],
        inputs=["x", "z"],
    )
    assert result.exact
    assert [part.example for part in result.outside] == [{"x": 702, "z": 298}]


def test_domain_and_coordinates_must_speak_of_inputs() -> None:
    with pytest.raises(ValueError, match="not among the inputs: y"):
        found(claim(X != 3), domain=[z3.ULT(Y, 3)])
    with pytest.raises(ValueError, match="not among the inputs: y"):
        found(claim(X != 3), coordinates=[Coordinate("y", Y)])
    with pytest.raises(ValueError, match="two symbols have the name x"):
        found(claim(X != 3), claim(z3.BitVec("x", 8) != 3))


# --- repeatable, readable


def test_results_do_not_depend_on_what_z3_was_asked_before() -> None:
    def ask() -> SafeSet:
        last = Coordinate("last", X + Z - 1)
        return found(
            claim(z3.Or(z3.ULT(X + Y, 0x8000), z3.UGE(X, 0x7_0000)), z3.ULT(Y, Z)),
            claim(z3.Implies(FLAG, X != 0x9_0000)),
            domain=[z3.UGE(Z, 1), z3.ULE(Z, PAGE), z3.ULE(X, X + Z - 1)],
            coordinates=[START, SIZE, SWITCH, last],
            inputs=["x", "z", "flag"],
            landmarks={"y": [Z - 1]},
        )

    first = ask()
    found(claim(z3.ULT(X + Z * Y, 12345), z3.ULT(Y, 3), z3.ULT(Z, 7)))
    assert first.exact
    assert ask() == first


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0x0"),
        (0xFFF, "0xfff"),
        (0x1000, "0x1000 (4 KiB)"),
        (0x80_0000_0000, "0x80_0000_0000 (512 GiB)"),
        (0x80_0000_0001, "0x80_0000_0001"),
    ],
)
def test_numbers_read_like_addresses_and_round_ones_like_sizes(value: int, words: str) -> None:
    assert number_words(value) == words


def test_a_shipped_trampoline() -> None:
    """MKRFC-1: which kernels are handed over to, from the claim that the suite proves."""
    contract = load_contract(TRAMPOLINES / "multikernel_rfc" / "contract.toml")
    image = load_image(contract)
    run = execute(contract, image)
    subject = Subject(contract, image, run)
    obligations: list[Obligation] = []
    hand_off_claim(subject, lambda name, *parts: obligations.extend(parts))  # type: ignore[arg-type]
    names = {VECTOR, "kernel_phys_addr", "boot_params_phys_addr", "maxphyaddr"}
    kernel = Coordinate("kernel", subject.kernel)
    boot_params = Coordinate("boot_params", subject.boot_params)
    halves = {
        name: term
        for end in run.ends
        for part in end.path
        for name, term in variables(part).items()
        if UPPER_HALF in name
    }
    usual = [run.features.long_mode, *(term == 0 for term in halves.values())]
    inputs = names | halves.keys() | {str(term) for term in vars(run.features).values()}
    domain = [*run.hypotheses, *usual]
    result = safe_set(obligations, domain, [kernel, boot_params], inputs)
    gib = 1 << 30
    assert result.exact
    assert limits(result.inside) == [
        {"kernel": (0, 512 * gib - 1)},
        {"kernel": (513 * gib, (1 << 47) - 1)},
    ]
    assert result.outside[0].example["kernel_phys_addr"] == 512 * gib
