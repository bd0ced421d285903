# SPDX-License-Identifier: GPL-2.0-only
"""What `pytest proofs/ --second-solver` says, keeps and shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.solve.second import NAME, bitwuzla_answers
from tests.proofs.conftest import Proofs
from tests.proofs.variants import tiny

ASKED = ("--second-solver",)


def test_the_second_solver_agrees_and_its_scripts_can_be_asked_again(
    proofs: Proofs, tmp_path: Path, checkout: Path, without_qemu: dict[str, str]
) -> None:
    scripts = tmp_path / "smt2"
    done = proofs(
        tiny(tmp_path), "hand_off or footprint", without_qemu, (*ASKED, "--smt2", str(scripts))
    )
    assert done.returncode == 0, done.stdout
    out = checkout / "reports/out"
    found = [
        obligation["second"]
        for claim in ("hand_off", "footprint")
        for obligation in json.loads((out / f"tiny.{claim}.json").read_text())["obligations"]
    ]
    assert len(found) > 10
    said = f"second solver: {NAME} agrees on {len(found)} of {len(found)} obligations"
    assert said in done.stdout
    page = (out / "index.html").read_text()
    assert said in page and found[0]["script"] in page
    for second in found:
        script = (scripts / second["script"]).read_text()
        assert bitwuzla_answers(script) == second["violation"]
    assert {second["violation"] for second in found} == {"sat", "unsat"}  # hand_off is refuted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--smt2", "somewhere"),
            "--smt2: add --second-solver, which is asked what is kept there.",
        ),
        ((*ASKED, "--smt2", "/proc/none"), "cannot be written"),
    ],
    ids=["nobody is asked", "no such folder"],
)
def test_options_that_cannot_be_followed_end_in_one_sentence(
    proofs: Proofs,
    tmp_path: Path,
    without_qemu: dict[str, str],
    options: tuple[str, ...],
    said: str,
) -> None:
    done = proofs(tiny(tmp_path), "paths", without_qemu, options)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_each_obligation_stands_under_its_own_name_also_where_two_ask_the_same(
    proofs: Proofs, tmp_path: Path, checkout: Path, without_qemu: dict[str, str]
) -> None:
    proofs(tiny(tmp_path), "", without_qemu)
    for path in (checkout / "reports/out").glob("tiny.*.json"):
        names = [one["name"] for one in json.loads(path.read_text())["obligations"]]
        assert len(names) == len(set(names)), path.name
