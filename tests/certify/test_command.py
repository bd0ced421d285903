# SPDX-License-Identifier: GPL-2.0-only
"""`python -m proofs.certify`: what it writes, what it says, and how it ends."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.certify import lrat
from harness.certify.certify import Verdict
from harness.certify.record import ClaimCertificate, ObligationRecord, ProofRecord, file_name
from harness.certify.sat import Cadical
from harness.certify.verified import Acl2
from harness.x86 import execute as execution
from proofs import certify
from proofs.certify import collected, guard_of, main, shipped
from proofs.prove import Prove
from proofs.subject import Subject
from tests.proofs.variants import TINY
from trampoline.contract import load_contract
from trampoline.errors import UserError
from trampoline.image import load_image
from trampoline.shipped import contract_of

LEGOOS = str(contract_of("legoos"))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the claims a quick one, and the checker that is always there."""
    claims = {"hand_off": certify.CLAIMS["hand_off"]}
    monkeypatch.setattr(certify, "CLAIMS", claims)
    monkeypatch.setattr(Acl2, "found", classmethod(lambda cls: None))


def written(folder: Path, trampoline: str, claim: str) -> ClaimCertificate:
    text = (folder / file_name(trampoline, claim)).read_text()
    return ClaimCertificate.model_validate_json(text)


def test_it_certifies_hand_off_identity_map_and_frame_of_what_is_hardened() -> None:
    assert [contract.name for contract in shipped()] == ["la57", "legoos", "multikernel", "start64"]
    assert set(certify.CLAIMS) == {
        "hand_off",
        "kernel_identity_map", "boot_params_identity_map", "image_identity_map",
        "footprint", "untouched", "stack", "code",
    }  # fmt: skip


def test_certificates_and_their_proofs_are_written_and_said(
    only: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([LEGOOS, "--out", str(tmp_path)]) == 0
    found = written(tmp_path, "legoos", "hand_off")
    assert found.certified == len(found.obligations) == 8
    assert found.sentence.startswith("Every path ends with the jump to the kernel's entry")
    for proof in (proof for one in found.obligations for proof in one.proofs):
        dimacs, steps = (
            gzip.decompress((tmp_path / "proofs" / f"{proof.file}.{end}.gz").read_bytes()).decode()
            for end in ("cnf", "lrat")
        )
        assert lrat.check(dimacs, steps) == proof.steps
    said = capsys.readouterr().out
    assert "legoos: hand_off: 8 of 8 certified" in said
    assert "8 of 8 obligations certified; CaDiCaL" in said


def test_a_second_run_proves_nothing_again(
    only: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([LEGOOS, "--out", str(tmp_path)]) == 0
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "proofs").iterdir()}

    def never(self: Cadical, dimacs: str, limit: int = 0) -> list[tuple[int, ...]]:
        raise AssertionError("asked again")

    monkeypatch.setattr(Cadical, "proof", never)
    assert main([LEGOOS, "--out", str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "proofs").iterdir()} == first


def test_a_claim_that_does_not_hold_fails_the_run(
    only: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(TINY / "contract.toml"), "--out", str(tmp_path)]) == 1
    found = written(tmp_path, "tiny", "hand_off")
    assert found.failed
    assert found.certified == len(found.obligations) - len(found.failed)
    assert all(one.verdict is not Verdict.NOT_CERTIFIED for one in found.obligations)
    assert "FAILED" in capsys.readouterr().out


def test_a_kept_proof_that_cannot_be_read_is_said_in_one_sentence(
    only: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([LEGOOS, "--out", str(tmp_path)]) == 0
    damaged = next((tmp_path / "proofs").glob("*.lrat.gz"))
    whole = damaged.read_bytes()
    for data in (whole[:-9], whole[:10] + b"\xff" + whole[11:]):
        damaged.write_bytes(data)
        assert main([LEGOOS, "--out", str(tmp_path)]) == 1
        assert capsys.readouterr().err.startswith(f"{damaged}: cannot be read")


def test_kept_files_that_are_not_what_was_checked_are_written_again(
    only: None, tmp_path: Path
) -> None:
    assert main([LEGOOS, "--out", str(tmp_path)]) == 0
    first, second, *_ = sorted((tmp_path / "proofs").glob("*.cnf.gz"))
    was = first.read_bytes()
    first.write_bytes(second.read_bytes())
    steps = first.with_name(first.name.replace(".cnf.", ".lrat."))
    steps.write_bytes(gzip.compress(b""))
    assert main([LEGOOS, "--out", str(tmp_path)]) == 0
    assert first.read_bytes() == was
    assert lrat.check(*(gzip.decompress(one.read_bytes()).decode() for one in (first, steps)))


def test_a_run_that_lost_a_path_is_not_certified(
    only: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execution, "MAX_PATHS", 0)
    assert main([str(TINY / "contract.toml"), "--out", str(tmp_path / "out")]) == 1
    assert "what the machine leaves out no certificate covers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_says_how_to_go_on(
    only: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Cadical, dimacs: str, limit: int = 0) -> list[tuple[int, ...]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Cadical, "proof", interrupted)
    assert main([LEGOOS, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "Interrupted: run it again to go on.\n"
    assert not (tmp_path / "out").exists()


def test_a_missing_solver_ends_it_before_it_begins(
    only: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([LEGOOS, "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("cadical was not found: install")
    assert not (tmp_path / "out").exists()


def test_a_claim_without_obligations_and_a_contract_without_claims_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asks_nothing(subject: Subject, prove: Prove) -> None:
        """Nothing."""
        prove("hand_off")

    monkeypatch.setattr(Acl2, "found", classmethod(lambda cls: None))
    monkeypatch.setattr(certify, "CLAIMS", {"hand_off": asks_nothing})
    assert main([str(TINY / "contract.toml"), "--out", str(tmp_path)]) == 1
    monkeypatch.setattr(certify, "CLAIMS", {})
    assert main([str(TINY / "contract.toml"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("None of these contracts has a claim")


def test_what_another_run_of_a_claim_leaves_out_is_not_certified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looks_elsewhere(subject: Subject, prove: Prove) -> None:
        """Something."""
        prove("hand_off", gaps=("no such instruction",))

    monkeypatch.setattr(certify, "CLAIMS", {"hand_off": looks_elsewhere})
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    subject = Subject(contract, image, execution.execute(contract, image))
    with pytest.raises(UserError, match="no such instruction: what the machine leaves out"):
        collected(subject, "hand_off")


def test_a_run_is_complete_if_each_obligation_is_certified_by_both_checkers() -> None:
    proof = ProofRecord(
        question="q", file="f", variables=1, clauses=1, steps=1, checkers=("a", "b"), seconds=1.0
    )
    one, other = (
        ObligationRecord(name=verdict, verdict=verdict, reason="", seconds=1.0, proofs=proofs)
        for verdict, proofs in ((Verdict.CERTIFIED, (proof,)), (Verdict.NOT_CERTIFIED, ()))
    )
    whole = ClaimCertificate(
        trampoline="t", claim="c", sentence="s", tools=(), obligations=(one,), seconds=1.0
    )
    assert guard_of([whole], (), "m").complete and guard_of([whole], (), "m").fingerprint == "m"
    in_part = whole.model_copy(update={"obligations": (one, other)})
    assert not guard_of([whole, in_part], (), "m").complete
    nothing = whole.model_copy(update={"obligations": ()})
    assert guard_of([whole, nothing], (), "m").problems == ("t, c: it has no obligation",)
