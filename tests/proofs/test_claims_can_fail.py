# SPDX-License-Identifier: GPL-2.0-only
"""Each claim refutes a trampoline that breaks it; one that cannot fail would show nothing.

The mutants of `multikernel` undo what makes a claim hold. `python -m proofs.mutants` changes every
single instruction; it takes long, this does not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from harness.replay.predict import Predictor
from harness.solve.decide import decide
from harness.solve.obligation import Obligation, Verdict
from harness.x86.execute import execute
from harness.x86.run import PathEnd, Run
from proofs import test_paths
from proofs.asked import Claim
from proofs.mutants.judge import first_turned, named, proved_of
from proofs.subject import Subject
from tests.proofs.variants import MULTIKERNEL, ONE_BASE, TINY, Edits, variant
from trampoline import contract as schema
from trampoline.contract import load_contract
from trampoline.image import load_image

CLAIMS = {named(claim): claim for claim in proved_of(load_contract(MULTIKERNEL / "contract.toml"))}

LAST_GIB = "\tmovq\t%r12, %rax\n\tcall\tmap_gib\n"
BOOT_PARAMS_GIB = "\tmovq\t%r15, %rax\n\tcall\tmap_gib\n"
LATE_JUMP = "\tmovq\t%r15, %rsi\n\tjmp\t*%r14"
REFUSE = "\tlock cmpxchgl\t%ebx, OFF(trampoline_status_bsp)(%rsi)\n"
WHAT_IT_MAPS = "\taddq\t$LARGE_PAGE_FLAGS, %rax"
FIRST_PAGE = "\tmovl\t$LARGE_PAGE_FLAGS, %eax"
UPPER_HALF = "\tmovl\t%esi, %esi\n"
CLAIM = "\tlock cmpxchgl\t%ecx, OFF(trampoline_status_bsp)\n\tjne\tpark\n"
COMMIT = "\tlock cmpxchgl\t%ecx, OFF(trampoline_status_bsp)(%rsi)\n\tjne\tgiven_up\n"
KERNEL_WORD = "\tmovq\tOFF(kernel_phys_addr)(%rsi), %r14\n"
LOAD_CR3 = "\tmovl\t%eax, %cr3\n"
STACK_POINTER = "\tleal\tOFF(trampoline_stack_bsp_end)(%esi), %esp\n"
MEETS_IMAGE = "\tandb\t%dl, %ch\n"
POOL = "\tleaq\tOFF(pgtable_extra_bsp)(%rsi), %rdx\n"

REFUTED = {
    "hand_off": {
        "leaves its base in RSI": {LATE_JUMP: "\tjmp\t*%r14"},
        "refuses without a word": {REFUSE: ""},
        "never claims, and refuses nothing": {
            CLAIM: "",
            "lock cmpxchgl\t%ecx, OFF(trampoline_status_bsp)\npark:": "park:",
        },
        "refuses a CPU that has long mode": {"\tjnc\trefuse_cpu": "\tjc\trefuse_cpu"},
    },
    "kernel_identity_map": {
        "maps the kernel's first GiB only": {LAST_GIB: ""},
        "maps the kernel read-only": {WHAT_IT_MAPS: "\taddq\t$(PTE_P | PTE_PS), %rax"},
    },
    "boot_params_identity_map": {"does not map boot_params": {BOOT_PARAMS_GIB: ""}},
    "image_identity_map": {
        "runs on pages mapped elsewhere": {
            FIRST_PAGE: "\tmovl\t$(LARGE_PAGE_FLAGS + LARGE_PAGE_SIZE), %eax"
        },
    },
    "no_stale_translation": {
        "changes a page that is in use": {
            POOL: "\tmovl\t$0x40000183, TABLE(2) + 800(%rsi)\n" + POOL
        },
    },
    "no_fault": {
        "does not ask for long mode": {"\tjnc\trefuse_cpu\n": ""},
        "does not ask whether CPUID has the leaf": {"\tjb\trefuse_cpu\n": ""},
        "loads a null selector into SS": {
            "\tmovl\t%eax, %ss\n": "\txorl\t%eax, %eax\n\tmovl\t%eax, %ss\n"
        },
    },
    "footprint": {
        "stores through a wild pointer": {LOAD_CR3: "\tmovl\t%eax, 0x500\n" + LOAD_CR3},
        "loads through a wild pointer": {LOAD_CR3: "\tmovl\t0x500, %ebx\n" + LOAD_CR3},
        "has the CPU mark a descriptor as accessed": {
            "DESC_CODE64\n\t.quad\tDESC_DATA\n\t.quad\tDESC_TSS_LOW": (
                "DESC_CODE64_FRESH\n\t.quad\tDESC_DATA\n\t.quad\tDESC_TSS_LOW"
            )
        },
    },
    "untouched": {"enters a kernel that meets the image": {MEETS_IMAGE: "\txorb\t%ch, %ch\n"}},
    "stack": {
        "pushes before the stack pointer is set": {
            STACK_POINTER: "\tpushl\t%esi\n\tpopl\t%esi\n" + STACK_POINTER
        },
        "enters the kernel on another stack": {LATE_JUMP: "\tmovl\t%esi, %esp\n" + LATE_JUMP},
        "needs more stack than there is": {
            "trampoline_stack_bsp:\n\t.skip\tPAGE_SIZE": (
                "\t.skip\tPAGE_SIZE - 4\ntrampoline_stack_bsp:\n\t.skip\t4"
            )
        },
    },
    "code": {
        "patches an instruction": {
            LOAD_CR3: "\tmovb\t$0x90, OFF(startup_64_bsp)(%esi)\n" + LOAD_CR3
        },
        "patches an instruction for one kernel address": {
            KERNEL_WORD: KERNEL_WORD
            + "\tmovzwl\t%r14w, %eax\n\tandl\t$0x1ff, %eax\n\tmovb\t$0x90, (%rsi, %rax)\n"
        },
    },
    "determined": {
        "takes an upper half for 0": {UPPER_HALF: ""},
    },
    "descriptor_tables": {
        "takes the first GDT's length for its limit": {
            "tgdt_bsp_end - tgdt_bsp - 1": "tgdt_bsp_end - tgdt_bsp"
        },
        "takes the second GDT's length for its limit": {
            "gdt_bsp_64_end - gdt_bsp_64 - 1": "gdt_bsp_64_end - gdt_bsp_64"
        },
        "loads 24 bits of the GDT's base": {"lgdtl\tOFF(tgdt_bsp)": "lgdtw\tOFF(tgdt_bsp)"},
        "leaves the IDT of INIT in force": {"\tlidtl\tOFF(tidt_bsp)\n": ""},
        "has an entry in its IDT": {"tidt_bsp:\n\t.short\t0": "tidt_bsp:\n\t.short\t3"},
        "loads the second GDT from its second entry on": {
            "OFF(gdt_bsp_64)(%esi), %eax": "OFF(gdt_bsp_64) + 8(%esi), %eax"
        },
    },
    "status_word": {
        "never claims": {CLAIM: ""},
        "claims what is offered to another CPU": {
            "leal\tSTATUS_OFFERED(%ebx), %eax": "movl\t$STATUS_OFFERED, %eax"
        },
        "claims by a plain store": {CLAIM: "\tmovl\t%ecx, OFF(trampoline_status_bsp)\n"},
        "goes on after a claim in vain": {"\tjne\tpark\n": ""},
        "writes before it claims": {
            "\tmovl\t$CPUID_BASIC_FEATURES, %eax\n": "\tmovl\t%esi, OFF(trampoline_location)\n"
            "\tmovl\t$CPUID_BASIC_FEATURES, %eax\n"
        },
        "refuses by a plain store": {REFUSE: "\tmovl\t%ebx, OFF(trampoline_status_bsp)(%rsi)\n"},
        "frees the area, and halts on its tables": {
            "given_up:\n": "given_up:\n\tmovl\t$STATUS_GIVEN_UP, %eax\n\txorl\t%ecx, %ecx\n"
            "\tlock cmpxchgl\t%ecx, OFF(trampoline_status_bsp)(%rsi)\n"
        },
        "refuses in the name of another CPU": {"\tjne\tpark\n": "\tjne\trefuse_cpu\n"},
        "reads before it claims": {
            "\tmovl\t$CPUID_BASIC_FEATURES, %eax\n": "\tmovl\tOFF(startup_32_vector_bsp), %ebp\n"
            "\tmovl\t$CPUID_BASIC_FEATURES, %eax\n"
        },
        "loads a table pointer from the mailbox after the commit": {
            LATE_JUMP: "\tlidt\tOFF(boot_params_phys_addr) - 2(%rsi)\n" + LATE_JUMP
        },
        "does not commit": {COMMIT: ""},
        "jumps though the host has given up": {"\tjne\tgiven_up\n": ""},
        "reads the mailbox again after the commit": {LATE_JUMP: KERNEL_WORD + LATE_JUMP},
        "writes half a status": {
            LATE_JUMP: "\tmovw\t$0, OFF(trampoline_status_bsp)(%rsi)\n" + LATE_JUMP
        },
        "says that it refuses, and goes on": {
            LATE_JUMP: "\tmovl\t$STATUS_REFUSED_CPU, OFF(trampoline_status_bsp)(%rsi)\n" + LATE_JUMP
        },
    },
}
"""Claim -> the mistake in words -> what makes it, in the source."""

MUTANTS = [
    pytest.param(claim, edits, id=f"{claim}: {mistake}")
    for claim, mistakes in REFUTED.items()
    for mistake, edits in mistakes.items()
]


def test_every_claim_has_a_mutant() -> None:
    """Paths are the machine's own: theirs are below. The mutants of a trampoline with its host are
    in tests/protocol (test_mutants_of_the_pair) and tests/host."""
    spoken_of = set(load_contract(MULTIKERNEL / "contract.toml").claims) & set(
        get_args(schema.ImageClaim)
    )
    assert {*REFUTED, "paths"} == set(CLAIMS) == spoken_of


@pytest.mark.parametrize(("claim", "edits"), MUTANTS)
def test_a_mutant_is_refuted(tmp_path: Path, claim: str, edits: Edits) -> None:
    contract = load_contract(variant(tmp_path, MULTIKERNEL, edits, ONE_BASE))
    name, verdict, reason = first_turned(contract, load_image(contract), (CLAIMS[claim],))
    assert (name, verdict) == (claim, "REFUTED"), reason


def test_a_direction_flag_that_is_taken_for_clear_is_not_proved(tmp_path: Path) -> None:
    """The machine does not know where the fill goes then, and says so."""
    edits = {"\tcld\t\t\t\t\t/* MKRFC-5 */\n": ""}
    contract = load_contract(variant(tmp_path, MULTIKERNEL, edits, ONE_BASE))
    _, verdict, reason = first_turned(contract, load_image(contract), (CLAIMS["determined"],))
    assert verdict == "UNSUPPORTED" and "while DF is 1, with paging on" in reason


@pytest.fixture(scope="module")
def tiny_run() -> tuple[Subject, Run]:
    contract = load_contract(TINY / "contract.toml")
    image = load_image(contract)
    run = execute(contract, image)
    return Subject(contract, image, run), run


def verdicts(claim: Claim, subject: Subject, run: Run) -> list[Verdict]:
    found: list[Verdict] = []
    predictor = Predictor(subject.contract, subject.image, run)

    def judge(name: str, *obligations: Obligation, gaps: tuple[str, ...] = ()) -> None:
        assert not gaps
        found.extend(decide(o, predictor).verdict for o in obligations)

    claim(subject, judge)  # type: ignore[arg-type]
    return found


def test_a_lost_path_and_one_taken_twice_are_refuted(tiny_run: tuple[Subject, Run]) -> None:
    subject, run = tiny_run
    claim = test_paths.test_paths

    def with_ends(ends: list[PathEnd]) -> list[Verdict]:
        damaged = replace(run, ends=tuple(ends))
        return verdicts(claim, Subject(subject.contract, subject.image, damaged), run)

    whole = list(run.ends)
    assert len(whole) == 5
    assert with_ends(whole) == [Verdict.PROVED, Verdict.PROVED]
    for lost in range(len(whole)):
        left = [end for number, end in enumerate(whole) if number != lost]
        assert with_ends(left) == [Verdict.REFUTED, Verdict.PROVED]
    broken = replace(whole[0], path=whole[0].path[:-1])
    assert with_ends([broken, *whole[1:]]) == [Verdict.PROVED, Verdict.REFUTED]
