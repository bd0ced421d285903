# SPDX-License-Identifier: GPL-2.0-only
"""What usually mends a refuted claim: for people who look at a new finding, not a verdict."""

from __future__ import annotations

HINTS = {
    "hand_off": (
        "Refuse or park where a kernel cannot be started, before anything is written outside "
        "the image; take 64-bit addresses through memory, not through 32-bit registers."
    ),
    "kernel_identity_map": (
        "Map the pages of the last byte, too, not those of the first alone: a range may cross a "
        "1 GiB or 512 GiB line."
    ),
    "boot_params_identity_map": (
        "Map the pages of boot_params, too: it may lie in another GiB than the kernel, and end "
        "in the next one."
    ),
    "image_identity_map": (
        "Keep each index within its table (9 bits), and put new entries where no translation in "
        "use goes through."
    ),
    "no_stale_translation": (
        "Clear all tables before paging is on; afterwards only turn entries present that are "
        "not, and fill a table before the entry that names it becomes present."
    ),
    "no_fault": (
        "Before they are used, ask CPUID for what a CPU may lack (its highest leaf first), and "
        "compare addresses with what tables, segments and 32-bit pointers reach."
    ),
    "footprint": (
        "Set the stack pointer before the first push of each mode; tables, stack and patched "
        "operands belong into the image's scratch parts; set the accessed bit of descriptors in "
        "advance."
    ),
    "untouched": ("Refuse a kernel or boot_params that meets what the trampoline writes."),
    "stack": (
        "Load the stack segment and all of (E/R)SP before the first push of each mode: SP of "
        "16-bit code counts from SS.base, and 64-bit code finds the upper half of RSP undefined "
        "(SDM vol. 1 3.4.1.1). Without a stack of its own, code can go on by far jumps alone."
    ),
    "code": (
        "Let stack and data lie away from code. What the trampoline itself patches or copies, "
        "the contract names ([[patched]], copy_of)."
    ),
    "determined": (
        "In 64-bit code clear upper halves (mov %esi, %esi) and load every segment register; "
        "clear the direction flag (cld) before string instructions and the jump, and tables "
        "before they are filled."
    ),
    "descriptor_tables": (
        "A limit is the offset of the last byte: size - 1 (SDM vol. 3A 3.5.1); 16-bit code "
        "loads a whole base with the operand-size prefix only (lgdtl)."
    ),
    "status_word": (
        "Write `started` before the mailbox is read; where the host writes the word, too, by a "
        "locked instruction."
    ),
    "table_switch": (
        "Write entry 0 as the old top-level table's address with P and R/W: bits 11:0 of CR3 "
        "are no flags of an entry."
    ),
    "entries_agree": ("Set in one place behind both entries what either of them finds otherwise."),
    "skip_is_safe": ("Leave a write out only where the register holds the very value."),
    "once": (
        "Store a whole address at each start; to add the base to what stands there is right "
        "only once."
    ),
    "one_at_a_time": (
        "Take the lock before the first access to anything else in the image. The kernel gives "
        "it back when it has left; the trampoline only where it parks."
    ),
    "load": (
        "Check type, entry and each segment, without overflow, before the first byte is "
        "written; a load that fails leaves no image to start."
    ),
    "kick": (
        "Check type and CPU, write mailbox and offer before INIT, and undo the warm-reset "
        "vector however the wait ends."
    ),
    **dict.fromkeys(
        ("no_false_start", "no_lost_start", "own_mail", "own_tables", "honest_verdict", "progress"),
        "Offer the area to one CPU for one attempt, and let host and CPU change the status word by "
        "locked compare-exchange alone: trampoline/PROTOCOL.md.",
    ),
}
"""By claim. `paths` has none: where it fails, the machine is wrong."""
