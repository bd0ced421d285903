# SPDX-License-Identifier: GPL-2.0-only
"""What a contract says of the inputs of a run: the image's bytes, what the host has put where, and
what it promises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import z3

from harness.x86.memory import EntryImage, Memory, stretches
from harness.x86.promise import HostTables, Range
from harness.x86.terms import ENTRY, Base, const, simplify
from models.cpuid import Features, consistent
from models.hand_over import HandOver, handed_over, with_boot_segments
from models.modes import CR4_LA57, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE
from trampoline.contract import Contract
from trampoline.image import (
    FIXUP_SIZE,
    LOCK_WORD_SIZE,
    MAILBOX_WORD_SIZE,
    STATUS_WORD_SIZE,
    Image,
)
from trampoline.sections import BASE_END, PAGE_SIZE, Area

HAND_OVER = "hand_over"
"""Ends the names of the symbols for the CPU's state at a 64-bit entry."""

UPPER_HALVES_ZERO = (
    "the upper halves of the general registers are 0 after the switch to 64-bit mode "
    "(the manual leaves them undefined)"
)
INIT_STATE = "the CPU starts as INIT and SIPI leave it (SDM 3A table 9-1); nothing else is known"
ANY_REGISTERS = (
    "the CPU starts in real mode where the SIPI says, with control registers, limits and rights as "
    "INIT leaves them (SDM 3A table 9-1); registers and flags hold anything"
)
HANDED_OVER = (
    "the CPU is handed over in 64-bit mode, with interrupts off, CR4.PAE = 1, no other bits of CR4 "
    "than 12:0 and 16 (so SMEP, SMAP, PKE, PKS, CET, LASS, LAM, PCIDE, VMXE and OSXSAVE are 0), of "
    "EFER than SCE, LME, LMA and NXE, and RFLAGS clear but for arithmetic flags and DF; nothing "
    "else is known"
)
BOOT_SEGMENTS = "it is handed over with the segments of the Linux 64-bit boot protocol"
LONG_MODE = "the CPU has Intel 64 (CPUID.80000001H:EDX.LM = 1)"
Assumption = tuple[str, z3.BoolRef]
TRUE = z3.BoolVal(True)


@dataclass(frozen=True)
class Given:
    """The inputs of a run as terms, and all that is assumed of them.

    `kernel` is the address at which the trampoline shall end, `boot_params` what RSI shall hold
    there. `chosen` are those of them that the host chooses. `hand_over` is the state at a 64-bit
    entry.
    """

    base: Base
    features: Features
    image: EntryImage
    kernel: z3.BitVecRef
    boot_params: z3.BitVecRef | None
    chosen: dict[str, z3.BitVecRef]
    hand_over: HandOver
    host_tables: tuple[HostTables, ...]
    assumptions: tuple[Assumption, ...]


def given(
    contract: Contract, image: Image, base: Base, features: Features, any_registers: bool
) -> Given:
    """What holds of every input. `any_registers`: see `cpu.after_init_sipi`."""
    chosen: dict[str, z3.BitVecRef] = {}
    kernel = _kernel(contract, image, base, chosen)
    boot_params = None
    if contract.boot_params is not None:
        boot_params = chosen["boot_params_phys_addr"] = z3.BitVec("boot_params_phys_addr", 64)
    words = {}
    for word in contract.word:
        name = word_name(word.symbol)
        words[image.symbols[word.symbol]] = chosen[name] = z3.BitVec(name, 8 * word.size)
    words |= {offset: base.at(target, 32) for offset, target in image.fixups.items()}
    mailbox = contract.mailbox
    for symbol, term in ((mailbox.kernel, kernel), (mailbox.boot_params, boot_params)):
        if symbol is not None and term is not None:
            words[image.symbols[symbol]] = term
    entry_image = EntryImage(image.data, unknown(contract, image), words)
    hand_over = _hand_over(contract, features, boot_params)
    ranges = _ranges(contract, image, base, hand_over, boot_params)
    tables = _host_tables(contract, image, Memory(base, entry_image), features, hand_over, ranges)
    assumptions = (
        *_of_the_machine(contract, base, features),
        *_of_the_entries(contract, features, hand_over, any_registers),
        *_of_the_host(contract, image, kernel, words, features, ranges),
        *((part.sentence, TRUE) for part in tables),
    )
    return Given(
        base, features, entry_image, kernel, boot_params, chosen, hand_over, tables, assumptions
    )


def scratch(contract: Contract, image: Image, kept: bool = False) -> frozenset[int]:
    """Offsets of the image bytes of which the contract says nothing at entry.

    `kept`: those, too, that a later start finds as an earlier one has left them.
    """
    offsets: set[int] = set()
    for part in contract.scratch:
        if part.kept and not kept:
            continue
        start = image.symbols[part.start] + part.offset
        end = start + part.size if part.size is not None else image.symbols[part.end or ""]
        offsets.update(range(start, end))
    return frozenset(offsets)


def unknown(contract: Contract, image: Image) -> frozenset[int]:
    """Offsets of the image bytes that hold anything at entry: scratch, and tables of the host's."""
    offsets = scratch(contract, image)
    if contract.map is None:
        return offsets
    root = image.symbols[contract.map.root]
    return offsets | frozenset(range(root, root + PAGE_SIZE))


def as_assembled(contract: Contract, image: Image) -> frozenset[int]:
    """Offsets of the image bytes that are as assembled in every start: nobody fills them in, and no
    start has changed them before."""
    mailbox = contract.mailbox
    words = [(symbol, MAILBOX_WORD_SIZE) for symbol in (mailbox.kernel, mailbox.boot_params)]
    words += [(word.symbol, word.size) for word in contract.word]
    words += [(patched.symbol, FIXUP_SIZE) for patched in contract.patched]
    words += [(contract.status.word, STATUS_WORD_SIZE)] if contract.status is not None else []
    words += [(contract.lock.word, LOCK_WORD_SIZE)] if contract.lock is not None else []
    places = [(image.symbols[symbol], size) for symbol, size in words if symbol is not None]
    places += [(offset, FIXUP_SIZE) for offset in image.fixups]
    filled = {offset for start, size in places for offset in range(start, start + size)}
    others = scratch(contract, image, kept=True) | unknown(contract, image)
    return frozenset(range(len(image.data))) - filled - others


def kept_parts(contract: Contract, image: Image) -> list[range]:
    """Image offsets that a later start finds as an earlier one has left them."""
    return stretches(scratch(contract, image, kept=True) - scratch(contract, image))


def word_name(symbol: str) -> str:
    """The name of the input for what the host has put into one of its words; no other input's."""
    return f"{symbol} (word)"


def at_entry(entry: int, contract: Contract) -> z3.BoolRef:
    """The CPU starts at this entry (its index)."""
    if len(contract.entry) == 1:
        return TRUE
    return z3.BitVec(ENTRY, 8) == entry


def _kernel(
    contract: Contract, image: Image, base: Base, chosen: dict[str, z3.BitVecRef]
) -> z3.BitVecRef:
    if contract.kernel.address is not None:
        return const(contract.kernel.address)
    if contract.kernel.symbol is not None:
        return base.at(image.symbols[contract.kernel.symbol])
    kernel = chosen["kernel_phys_addr"] = z3.BitVec("kernel_phys_addr", 64)
    return kernel


def _hand_over(
    contract: Contract, features: Features, boot_params: z3.BitVecRef | None
) -> HandOver:
    state = handed_over(HAND_OVER, features.five_level, features.no_execute, features.maxphyaddr)
    if any(entry.protocol == "linux-64" for entry in contract.entry):
        state = with_boot_segments(state)
    if boot_params is not None and contract.boot_params and contract.boot_params.register_:
        registers = {**state.registers, contract.boot_params.register_: boot_params}
        state = replace(state, registers=registers)
    return state


def _ranges(
    contract: Contract,
    image: Image,
    base: Base,
    hand_over: HandOver,
    boot_params: z3.BitVecRef | None,
) -> dict[str, Range]:
    """What a 64-bit entry finds mapped, by name: the image, its areas, its stack, boot_params."""
    if not any(entry.mode == "long64" for entry in contract.entry):
        return {}
    found = {"the image": (base.term, const(len(image.data)))}
    for area in contract.area:
        found[f"the area {area.name}"] = (const(area.address), const(area_size(area, image)))
    if contract.stack is not None and contract.stack.below_rsp is not None:
        size = contract.stack.below_rsp
        found["the stack"] = (hand_over.registers["rsp"] - size, const(size))
    if boot_params is not None and contract.boot_params is not None:
        found["boot_params"] = (boot_params, const(contract.boot_params.size))
    return found


def area_size(area: Area, image: Image) -> int:
    """The size of an area in bytes."""
    if area.copy_of is None:
        assert area.size is not None  # the contract's schema demands one of the two
        return area.size
    first, end = area.copy_of
    return image.symbols[end] - image.symbols[first]


def _host_tables(
    contract: Contract,
    image: Image,
    memory: Memory,
    features: Features,
    hand_over: HandOver,
    ranges: dict[str, Range],
) -> tuple[HostTables, ...]:
    def tables(
        sentence: str,
        control: tuple[z3.BitVecRef, z3.BitVecRef, z3.BitVecRef],
        covers: tuple[Range, ...],
        apart: tuple[Range, ...],
    ) -> HostTables:
        cr3, cr4, efer = control
        five_level = simplify(cr4 & CR4_LA57 != 0)
        no_execute = simplify(efer & EFER_NXE != 0)
        return HostTables(
            sentence, cr3, five_level, no_execute, features.gib_pages, features.maxphyaddr,
            memory, covers, apart,
        )  # fmt: skip

    found = []
    registers, base = hand_over.registers, memory.base
    if ranges:
        apart = [part for name, part in ranges.items() if name != "boot_params"]
        found.append(
            tables(
                f"the page tables of a 64-bit entry map {_list(list(ranges))} to themselves, for "
                "every access, also under CR0.WP; no walk of theirs, of any address, uses a table "
                "there, boot_params apart",
                (registers["cr3"], registers["cr4"], registers["efer"]),
                tuple(ranges.values()),
                tuple(apart),
            )
        )
    if contract.map is not None:
        root, symbols = image.symbols[contract.map.root], image.symbols
        words = memory.image.words
        cr4, efer = (words[symbols[s]] for s in (contract.map.cr4, contract.map.efer))
        behind = root + PAGE_SIZE
        top = z3.If(z3.UGE(features.maxphyaddr, 47), const(47), features.maxphyaddr)
        found.append(
            tables(
                f"the page tables from {contract.map.root} on, with CR4.LA57 as in "
                f"{contract.map.cr4} and EFER.NXE as in {contract.map.efer}, map all memory below "
                "2^47 to itself, for every access, also under CR0.WP; no walk of theirs uses any "
                "other page of the image",
                (base.at(root), z3.ZeroExt(64 - cr4.size(), cr4), efer),
                ((const(0), const(1) << top),),
                ((base.term, const(root)), (base.at(behind), const(len(image.data) - behind))),
            )
        )
    return tuple(found)


def _of_the_machine(contract: Contract, base: Base, features: Features) -> list[Assumption]:
    lowest, highest = contract.cpu.maxphyaddr
    result = [
        (
            f"the image lies at a page-aligned base from {base.lowest:#x} to {base.highest:#x}",
            simplify(base.in_range()),
        ),
        (
            f"MAXPHYADDR is {lowest} to {highest}",
            z3.And(z3.UGE(features.maxphyaddr, lowest), z3.ULE(features.maxphyaddr, highest)),
        ),
        ("no NMI, SMI, INIT, machine check or debug exception during the run", TRUE),
        (
            "no other agent writes the image during the run, its areas or its stack, but for the "
            "status word and the lock",
            TRUE,
        ),
        ("memory is RAM: a read, also one of a page walk, gives what was written last", TRUE),
        ("A20 is on; no nested paging or memory encryption", TRUE),
        (
            "CPUID exists and tells the truth; Intel 64 comes with PAE and leaf 80000008H",
            simplify(consistent(features)),
        ),
    ]
    if "long-mode" in contract.cpu.assume:
        result.append((LONG_MODE, features.long_mode))
    return result


def _of_the_entries(
    contract: Contract, features: Features, hand_over: HandOver, any_registers: bool
) -> list[Assumption]:
    modes = {entry.mode for entry in contract.entry}
    result: list[Assumption] = []
    if "real" in modes:
        result.append((ANY_REGISTERS if any_registers else INIT_STATE, TRUE))
    if "long64" in modes:
        here = z3.Or(
            *(at_entry(n, contract) for n, e in enumerate(contract.entry) if e.mode == "long64")
        )
        state = z3.And(features.long_mode, *hand_over.conditions)
        result.append((HANDED_OVER, simplify(z3.Implies(here, state))))
    if any(entry.protocol == "linux-64" for entry in contract.entry):
        result.append((BOOT_SEGMENTS, TRUE))
    if len(contract.entry) > 1:
        names = _list([entry.called for entry in contract.entry])
        known = z3.ULT(z3.BitVec(ENTRY, 8), len(contract.entry))
        result.append((f"the CPU starts at one of {names}", known))
    if any("upper-halves-zero" in entry.assume for entry in contract.entry):
        result.append((UPPER_HALVES_ZERO, TRUE))
    return result


def _of_the_host(
    contract: Contract,
    image: Image,
    kernel: z3.BitVecRef,
    words: dict[int, z3.BitVecRef],
    features: Features,
    ranges: dict[str, Range],
) -> list[Assumption]:
    result: list[Assumption] = [
        (
            "the image's bytes are as assembled, but for what the host fills in and scratch areas",
            TRUE,
        )
    ]
    for word in contract.word:
        term = words[image.symbols[word.symbol]]
        bits = z3.And(term & word.must == word.must, term & ~word.may == 0)
        result.append(
            (f"{word.symbol} has the bits {word.must:#x}, and others only of {word.may:#x}", bits)
        )
        if word.register_ is not None:
            supported = _supported(word.register_, features, 8 * word.size)
            # Whether it has those that must be set, the code may have to find out.
            open_to_host = word.may & ~word.must
            sentence = (
                f"the CPU has the bits of {word.register_.upper()} that {word.symbol} sets beside "
                f"{word.must:#x}"
            )
            result.append((sentence, term & ~supported & open_to_host == 0))
    if contract.kernel.below is not None:
        below = contract.kernel.below
        result.append((f"the kernel is entered below {below:#x}", z3.ULT(kernel, below)))
    parts = list(ranges.items())
    for number, (name, part) in enumerate(parts):
        for other, (start, length) in parts[:number]:
            apart = simplify(misses_range(part, (start, length)))
            result.append((f"{other} and {name} have no byte in common", apart))
        if name != "the image":
            result.append((f"{name} does not wrap around", z3.ULE(part[0], part[0] + part[1] - 1)))
            last = part[0] + part[1] - 1
            result.append((f"{name} lies below {BASE_END:#x}", z3.ULT(last, BASE_END)))
    return result


def misses_range(one: Range, other: Range) -> z3.BoolRef:
    """The two ranges have no byte in common."""
    return z3.And(z3.UGE(one[0] - other[0], other[1]), z3.UGE(other[0] - one[0], one[1]))


def _supported(register: str, features: Features, bits: int) -> z3.BitVecRef:
    """The bits of CR4 or EFER that a CPU has as far as CPUID's symbols say; the others are taken
    for supported where a host's word may set them."""
    zero = const(0)
    if register == "cr4":
        lacking = z3.If(features.pae, zero, const(CR4_PAE)) | z3.If(
            features.five_level, zero, const(CR4_LA57)
        )
    else:
        lacking = z3.If(features.long_mode, zero, const(EFER_LME | EFER_LMA)) | z3.If(
            features.no_execute, zero, const(EFER_NXE)
        )
    return z3.Extract(bits - 1, 0, ~lacking)


def _list(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
