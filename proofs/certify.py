# SPDX-License-Identifier: GPL-2.0-only
"""Certify the claims hand-off, identity map and frame: a checked proof for each obligation.

python -m proofs.certify [PATH/contract.toml ...]

Without a contract: of all shipped trampolines for which the contract expects these claims PROVED.
What an interrupted run has proved is not proved again, but checked again.
"""

from __future__ import annotations

import gzip
import sys
import time
import zlib
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path

import bitwuzla
import z3
from rich.console import Console

from harness.certify.certify import Certificate, Certifier, Proof, Verdict
from harness.certify.record import ClaimCertificate, file_name, recorded
from harness.certify.sat import Cadical
from harness.certify.verified import Acl2
from harness.guard import GuardRecord
from harness.solve.obligation import Obligation
from harness.x86.execute import execute
from proofs import test_frame, test_hand_off, test_identity_map
from proofs.asked import asked
from proofs.subject import Subject
from reports.files import OUT, write_atomically
from reports.fingerprint import fingerprint
from reports.guards import write_guard
from trampoline.contract import Contract, load_contract
from trampoline.errors import UserError
from trampoline.image import load_image
from trampoline.shipped import contracts

CLAIMS: dict[str, Callable[..., None]] = {
    name.removeprefix("test_"): claim
    for module in (test_hand_off, test_identity_map, test_frame)
    for name, claim in vars(module).items()
    if name.startswith("test_")
}
"""By name; each is asked as pytest does, but what it would have proved is only collected."""
OWN_CHECKER = "harness/certify/lrat.py"
NOT_COVERED = (
    "what the machine leaves out no certificate covers; see what pytest proofs/ says of it."
)


@dataclass(frozen=True)
class Folder:
    """Where certificates are written, and the proofs below it."""

    path: Path

    def proof(self, name: str) -> str | None:
        """A proof in LRAT that an earlier run has found."""
        path = self._of(name, "lrat")
        try:
            return gzip.decompress(path.read_bytes()).decode()
        except FileNotFoundError:
            return None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            reason = f"{path}: cannot be read ({error}); delete it, then run again."
            raise UserError(reason) from None

    def keep(self, proof: Proof) -> None:
        """Write clauses and proof, if just these are not there: a file may be damaged, or of other
        clauses."""
        packed = {
            self._of(proof.name, end): gzip.compress(text.encode(), compresslevel=6, mtime=0)
            for end, text in (("cnf", proof.dimacs), ("lrat", proof.lrat))
        }
        write_atomically({path: data for path, data in packed.items() if not _holds(path, data)})

    def write(self, certificate: ClaimCertificate) -> None:
        """Write what is said of a claim."""
        name = file_name(certificate.trampoline, certificate.claim)
        text = certificate.model_dump_json(indent=2)
        write_atomically({self.path / name: text.encode() + b"\n"})

    def _of(self, name: str, end: str) -> Path:
        return self.path / "proofs" / f"{name}.{end}.gz"


class Run:
    """Certifies claims with what is installed, and says what it does."""

    def __init__(self, folder: Folder, console: Console) -> None:
        self._folder, self._console = folder, console
        self._solver, self._verified = Cadical(), Acl2.found()
        self._certifier = Certifier(self._solver, folder.proof)
        self.tools: tuple[str, ...] = (self._solver.name, OWN_CHECKER)
        if self._verified is not None:
            self.tools += (self._verified.name,)
        self.tools += (f"z3 {z3.get_version_string()}", f"bitwuzla {bitwuzla.version()}")

    def trampoline(self, contract: Contract) -> list[ClaimCertificate]:
        """Certify its claims, one file for each."""
        self._say(f"{contract.name}: executing for all inputs")
        image = load_image(contract)
        subject = Subject(contract, image, execute(contract, image))
        if subject.left_out:
            raise UserError(f"{contract.name}: {subject.left_out[0]}: {NOT_COVERED}")
        return [self._claim(subject, name) for name in CLAIMS if name in contract.claims]

    def _claim(self, subject: Subject, name: str) -> ClaimCertificate:
        began = time.perf_counter()
        trampoline = subject.contract.name
        obligations = collected(subject, name)
        certificates = list[Certificate]()
        for number, obligation in enumerate(obligations, start=1):
            self._say(f"{trampoline}: {name}: {number} of {len(obligations)}: {obligation.name}")
            certificates.append(self._certifier.certify(obligation))
            for proof in certificates[-1].proofs:
                self._folder.keep(proof)
        accepted: dict[str, bool] = {}
        second = self._verified.name if self._verified is not None else None
        if self._verified is not None:
            self._say(f"{trampoline}: {name}: {second}")
            proofs = {p.name: (p.dimacs, p.lrat) for one in certificates for p in one.proofs}
            accepted = self._verified.accepted(proofs)
        certificate = ClaimCertificate(
            trampoline=trampoline,
            claim=name,
            sentence=" ".join((getdoc(CLAIMS[name]) or "").split()),
            tools=self.tools,
            obligations=tuple(recorded(one, OWN_CHECKER, second, accepted) for one in certificates),
            seconds=time.perf_counter() - began,
        )
        self._folder.write(certificate)
        self._show(certificate)
        return certificate

    def _say(self, text: str) -> None:
        if self._console.is_terminal:
            line = text[: self._console.width - 1]
            print(f"\r\x1b[K{line}", end="\r", file=self._console.file, flush=True)

    def _show(self, certificate: ClaimCertificate) -> None:
        proofs = [proof for one in certificate.obligations for proof in one.proofs]
        clauses = max((proof.clauses for proof in proofs), default=0)
        steps = max((proof.steps for proof in proofs), default=0)
        self._print(
            f"{certificate.trampoline}: {certificate.claim}: {certificate.certified} of "
            f"{len(certificate.obligations)} certified, at most {clauses:,} clauses and {steps:,} "
            f"steps ({certificate.seconds:.1f} s)"
        )
        for one in certificate.obligations:
            if one.verdict is not Verdict.CERTIFIED:
                self._print(f"  {one.verdict}: {one.name}: {one.reason}")

    def _print(self, text: str) -> None:
        print(f"{_start(self._console)}{text}", file=self._console.file, flush=True)


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _start(console: Console) -> str:
    """What clears a line of progress."""
    return "\r\x1b[K" if console.is_terminal else ""


def collected(subject: Subject, claim: str) -> tuple[Obligation, ...]:
    """The obligations of a claim."""
    obligations, gaps = asked(CLAIMS[claim], subject)
    if gaps:
        raise UserError(f"{subject.contract.name}: {claim}: {gaps[0]}: {NOT_COVERED}")
    return obligations


def shipped() -> list[Contract]:
    """Those of which the contract expects all these claims PROVED."""
    found = map(load_contract, contracts())
    return [contract for contract in found if _expects_proofs(contract)]


def _expects_proofs(contract: Contract) -> bool:
    asked = [contract.expected[claim] for claim in CLAIMS if claim in contract.expected]
    return all(expected.verdict == "PROVED" for expected in asked)


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if something fails: an obligation that does not hold, or a proof that is rejected."""
    parser = ArgumentParser(prog="python -m proofs.certify", description=__doc__.split("\n")[0])
    parser.add_argument("contracts", nargs="*", type=Path, metavar="PATH/contract.toml")
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT / "certificates",
        metavar="FOLDER",
        help="where certificates and proofs are written (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    console, mark = Console(), fingerprint()
    try:
        contracts = [load_contract(path) for path in options.contracts] or shipped()
        run = Run(Folder(options.out), console)
        found = [one for contract in contracts for one in run.trampoline(contract)]
        if not found:
            raise UserError("None of these contracts has a claim of those that are certified.")
    except UserError as error:
        print(f"{_start(console)}{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_start(console)}Interrupted: run it again to go on.", file=sys.stderr)
        return 130
    total = sum(len(one.obligations) for one in found)
    certified = sum(one.certified for one in found)
    print(f"{certified} of {total} obligations certified; {', '.join(run.tools)}")
    print(f"certificates: {options.out}")
    guard = guard_of(found, run.tools, mark)
    try:
        if not options.contracts:
            write_guard(guard, options.out.parent)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return int(bool(guard.problems))


def _whole(claim: ClaimCertificate) -> bool:
    return 0 < claim.certified == len(claim.obligations)


def guard_of(found: Sequence[ClaimCertificate], tools: Sequence[str], mark: str) -> GuardRecord:
    """What the certificates show, for the trust page. `mark`: the fingerprint they began with."""
    claims = [(f"{one.trampoline}, {one.claim}", one) for one in found]
    proofs = {
        proof.file: proof for one in found for each in one.obligations for proof in each.proofs
    }
    twice = sum(len(proof.checkers) > 1 for proof in proofs.values())
    return GuardRecord(
        name="certificates",
        shows="Hand-off, identity maps and frame have proof objects that a small checker accepts, "
        "and one that is proved correct in ACL2.",
        command="python -m proofs.certify",
        fingerprint=mark,
        complete=bool(proofs) and twice == len(proofs) and all(map(_whole, found)),
        figures={
            "obligations": f"{sum(len(one.obligations) for one in found):,}",
            "certified": f"{sum(one.certified for one in found):,}",
            "proofs": f"{len(proofs):,}",
            "accepted by the verified checker": f"{twice:,}",
            "steps": f"{sum(proof.steps for proof in proofs.values()):,}",
        },
        problems=(
            *(
                f"{name}, {one.name}: {one.reason}"
                for name, claim in claims
                for one in claim.failed
            ),
            *(f"{name}: it has no obligation" for name, claim in claims if not claim.obligations),
        ),
        open=(
            *(
                f"{name}, {one.name}: not certified: {one.reason}"
                for name, claim in claims
                for one in claim.obligations
                if one.verdict is Verdict.NOT_CERTIFIED
            ),
            f"with {', '.join(tools)}",
        ),
        seconds=round(sum(one.seconds for one in found), 1),
    )


if __name__ == "__main__":
    sys.exit(main())
