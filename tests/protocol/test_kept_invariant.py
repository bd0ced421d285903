# SPDX-License-Identifier: GPL-2.0-only
"""The invariant kept beside a contract is only checked: a wrong or damaged file proves nothing.

`python -m tests.protocol.test_kept_invariant` writes that of the pair written down by hand anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.protocol import __main__ as command
from harness.protocol import assembled, invariant_file, lemmas, verdict
from harness.protocol.assembled import Assembled, decide, read_kept
from tests.proofs.variants import MULTIKERNEL
from tests.protocol import pairs
from tests.protocol.test_verdicts import KEPT
from trampoline.contract import load_contract
from trampoline.errors import UserError


@pytest.fixture
def pair(tmp_path: Path) -> Assembled:
    """The hardened pair as written down by hand, with the contract's folder in `tmp_path`."""
    contract = shutil.copy(MULTIKERNEL / "contract.toml", tmp_path)
    return Assembled(load_contract(Path(contract)), pairs.HARDENED, {})


def decided(pair: Assembled) -> set[str]:
    return {found.verdict for found in decide(pair, searches=()).verdicts.values()}


@pytest.fixture
def nothing_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*arguments: object) -> None:
        raise lemmas.GaveUp("not in this test")

    monkeypatch.setattr(lemmas, "find", give_up)


def test_kept_invariant_is_enough(pair, nothing_else_is_found):
    shutil.copy(KEPT, pair.kept)
    decision = decide(pair, searches=())
    assert {found.verdict for found in decision.verdicts.values()} == {"PROVED"}
    assert decision.not_kept == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        (b"", "the invariant is not whole: no lemma"),
        (b"\xff\xfe", "it is no text"),
        (b"at\n  : 0, x\n", "line 2 of the invariant cannot be read:   : 0, x"),
    ],
    ids=["missing", "empty", "not text", "damaged"],
)
def test_file_that_cannot_be_read_is_none(pair, content, reason):
    if content is not None:
        pair.kept.write_bytes(content)
    assert read_kept(pair) == (None, reason)


def test_folder_in_its_place_is_none(pair):
    pair.kept.mkdir()
    assert read_kept(pair) == (None, "it cannot be read (Is a directory)")


@pytest.mark.parametrize("cut", [0.3, 0.9], ids=["a third", "all but a tenth"])
def test_part_of_the_file_proves_nothing(pair, nothing_else_is_found, cut):
    lines = KEPT.read_text().splitlines(keepends=True)
    pair.kept.write_text("".join(lines[: int(cut * len(lines))]))
    assert decided(pair) == {"UNKNOWN"}


def test_invariant_of_other_code_is_not_used_and_another_one_is_found(pair):
    other = KEPT.read_text().replace("cpu_at\n  : in the kernel,", "cpu_at\n  :")
    pair.kept.write_text(other)
    decision = decide(pair, searches=())
    assert {found.verdict for found in decision.verdicts.values()} == {"PROVED"}
    assert decision.not_kept == (
        f"{pair.kept}: not the invariant of this code (inductive: z3 says sat); write the new "
        f"one: python -m harness.protocol {pair.contract.path} --write"
    )
    assert decision.invariant is not None
    pair.kept.write_text(pair.text(decision.invariant))
    assert read_kept(pair) == (decision.invariant, "")


def test_command_tells_and_writes(pair, monkeypatch, capsys):
    shutil.copy(KEPT, pair.kept)
    monkeypatch.setattr(command, "assemble", lambda contract: pair)
    monkeypatch.setattr(command, "decide", lambda pair: decide(pair, searches=()))
    contract = str(pair.contract.path)
    assert command.main([contract, "--write"]) == 0
    said = capsys.readouterr().out
    assert "PROVED  own_mail\n" in said
    assert said.endswith(f"written: {pair.kept}\n")  # with the locations
    assert command.main([contract, "--write"]) == 0
    assert "written" not in capsys.readouterr().out


def test_file_that_cannot_be_written_is_one_sentence(pair, monkeypatch, capsys):
    def fail(path: Path, text: str, encoding: str) -> None:
        raise OSError(28, "No space left on device")

    shutil.copy(KEPT, pair.kept)
    monkeypatch.setattr(command, "assemble", lambda contract: pair)
    monkeypatch.setattr(command, "decide", lambda pair: decide(pair, searches=()))
    monkeypatch.setattr(Path, "write_text", fail)
    assert command.main([str(pair.contract.path), "--write"]) == 1
    said = capsys.readouterr().err
    assert said == f"{pair.kept}: cannot be written (No space left on device).\n"


def test_trampoline_without_a_host_is_one_sentence(tmp_path, capsys):
    contract = tmp_path / "contract.toml"
    text = (MULTIKERNEL / "contract.toml").read_text()
    contract.write_text(text.replace('[host]\nsource = "../host/multikernel"\n', ""))
    text = contract.read_text()
    contract.write_text(text[: text.index("[expected.")])
    with pytest.raises(UserError, match=r"has no \[host\]; name the folder of its host's C"):
        assembled.assemble(load_contract(contract))
    assert command.main([str(contract)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


if __name__ == "__main__":
    found = verdict.decide(pairs.HARDENED).invariant
    assert found is not None
    KEPT.write_text(invariant_file.text(found, {}))
