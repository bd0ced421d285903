# SPDX-License-Identifier: GPL-2.0-only
"""`make bench`: what the suite costs, and what stock angr does with the same image, in one run."""

from __future__ import annotations

import io
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import angr
import archinfo
from angr.engines import UberEnginePcode
from rich.console import Console
from rich.table import Table

from harness.qemu.bench import replay_ms
from harness.qemu.job import Job
from harness.record import ClaimRecord
from harness.x86.execute import execute
from trampoline.contract import Contract, load_contract
from trampoline.image import Image, load_image
from trampoline.shipped import contracts

ROOT = Path(__file__).resolve().parents[2]
WIDE = Path(__file__).resolve().parent / "wide"
BASE = 0x90000
GIB = 1 << 30
STEPS_MAX = 60_000  # of stock angr, per part
SECONDS_MAX = 60.0  # of stock angr, per part
PARTS = {
    "trampoline_data_bsp": "x86:LE:16:Real Mode",
    "startup_32_bsp": "x86:LE:32:default",
    "startup_64_bsp": "x86:LE:64:default",
}


@dataclass(frozen=True)
class Stock:
    """How far stock angr came with one part of the image."""

    part: str
    instructions: int
    seconds: float
    stopped_by: str


def main() -> None:
    """Measure and print."""
    console = Console()
    shipped = [load_contract(path) for path in contracts()]
    images = {contract.name: load_image(contract) for contract in shipped}
    table = Table("what", "measured", "wanted", title="trampoline-proofs on this machine")
    own: dict[str, float] = {}
    for contract in shipped:
        image = images[contract.name]
        execute(contract, image, only_base=BASE)  # loads the decoders, once per process
        for what, base, wanted in (("every base", None, "3 s"), ("one base", BASE, "0.5 s")):
            seconds = _median(lambda: execute(contract, image, only_base=base))  # noqa: B023
            table.add_row(f"{contract.name}: execution, {what}", f"{seconds:.2f} s", wanted)
            own[f"{contract.name} {what}"] = seconds
    milliseconds = replay_ms([_job(images["multikernel_rfc"], n) for n in range(600)])
    table.add_row("replay in QEMU, bulk, per input", f"{milliseconds:.2f} ms", "3 ms")
    started = time.perf_counter()
    proofs = [sys.executable, "-m", "pytest", "-q", "-n", "2", "proofs/"]
    result = subprocess.run(proofs, cwd=ROOT, capture_output=True, check=False)
    seconds = time.perf_counter() - started
    state = "" if result.returncode == 0 else f" (exit code {result.returncode})"
    table.add_row("pytest proofs/ -n 2, all trampolines", f"{seconds:.1f} s{state}", "60 s")
    small, large = (_wide(gib) for gib in (4, 512))
    for what, one, other in zip(("execution", "solving"), small, large, strict=True):
        ratio = f"{one:.2f} s, {other:.2f} s: x {other / one:.2f}"
        table.add_row(f"mapping 4 GiB or 512 GiB: {what}", ratio, "x 1.2")
    console.print(table)
    rfc = next(contract for contract in shipped if contract.name == "multikernel_rfc")
    _print_stock(console, rfc, images[rfc.name], own)


def _wide(gib: int) -> tuple[float, float]:
    """Seconds to execute a trampoline that maps so many GiB, and to decide all claims on it."""
    path = WIDE / f"wide{gib}.toml"
    contract = load_contract(path)
    image = load_image(contract)
    execution = _median(lambda: execute(contract, image))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "proofs/", "--trampoline", str(path)]
        command += ["--out", folder, "-k", contract.name]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        records = [
            ClaimRecord.model_validate_json(file.read_bytes())
            for file in Path(folder).glob(f"{contract.name}.*.json")
        ]
    solving = sum(obligation.seconds for record in records for obligation in record.obligations)
    return execution, solving


def _median(action: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _job(image: Image, number: int) -> Job:
    kernel = (16 << 20) + number % 40 * (64 << 20)
    data = bytearray(image.data)
    for symbol, value in (("kernel_phys_addr", kernel), ("boot_params_phys_addr", 0x20000)):
        offset = image.symbols[symbol]
        data[offset : offset + 8] = value.to_bytes(8, "little")
    return Job(image=bytes(data), base=BASE, kernel=kernel, boot_params=0x20000)


def _print_stock(console: Console, contract: Contract, image: Image, own: dict[str, float]) -> None:
    """The baseline: angr's own p-code engine on the same image at one concrete base."""
    table = Table("part", "instructions", "seconds", "stopped by", title="stock angr (p-code)")
    stock = [_stock(image, symbol, language) for symbol, language in PARTS.items()]
    for row in stock:
        table.add_row(row.part, str(row.instructions), f"{row.seconds:.1f}", row.stopped_by)
    console.print(table)
    seconds = own[f"{contract.name} one base"]
    console.print(
        f"Here {contract.name} runs at the same base from SIPI to the end of every path in "
        f"{seconds:.2f} s, for every mailbox. Stock angr misses: every change of mode and segment, "
        "so each part was started by hand in a blank state, with the mailbox as assembled (0); "
        "what comes after the instruction that stopped it; and, at a store to a symbolic address, "
        "all inputs but those of the one address that it picks."
    )


def _stock(image: Image, symbol: str, language: str) -> Stock:
    """Step angr's own engine through one part, each part from a blank state of its mode."""
    logging.getLogger("angr").setLevel(logging.CRITICAL)
    logging.getLogger("cle").setLevel(logging.CRITICAL)
    arch = archinfo.ArchPcode(language)
    started = time.perf_counter()
    offset, steps = image.symbols[symbol], 0
    try:
        base = 0 if "Real" in language else BASE
        project = angr.Project(
            io.BytesIO(image.data[:0xF000]),
            engine=UberEnginePcode,
            main_opts={"backend": "blob", "arch": arch, "base_addr": base, "entry_point": base},
            auto_load_libs=False,
        )
        state = project.factory.blank_state(addr=base + offset)
        if "Real" not in language:
            for name in ("esi", "rsi"):
                if name in arch.registers:
                    setattr(state.regs, name, BASE)
        manager = project.factory.simgr(state)
        while manager.active and steps < STEPS_MAX:
            if time.perf_counter() - started > SECONDS_MAX:
                return Stock(symbol, steps, SECONDS_MAX, f"the limit of {SECONDS_MAX:.0f} s")
            manager.step(num_inst=1)
            steps += len(manager.active)
        reason = str(manager.errored[0].error) if manager.errored else _left(manager)
    except Exception as error:  # whatever stops it is the result
        reason = f"{type(error).__name__}: {error}"
    return Stock(symbol, steps, time.perf_counter() - started, reason)


def _left(manager: angr.SimulationManager) -> str:
    left = {name: len(states) for name, states in manager.stashes.items() if states}
    return ", ".join(f"{count} {name}" for name, count in left.items()) or "no path left"


if __name__ == "__main__":
    main()
