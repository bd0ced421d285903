# SPDX-License-Identifier: GPL-2.0-only
"""What a real machine has and no model here has: each is taken for granted as is said of it."""

from __future__ import annotations

NOT_MODELLED = {
    "interruptions": "From SIPI to the hand-off no NMI, SMI, INIT, machine check or debug "
    "exception comes (the protocol's claims allow for INIT). With an empty IDT an NMI or a machine "
    "check is a shutdown (SDM 3A 6.10, 6.15); an SMI leaves all as it was found (SDM 3C 34.4).",
    "caches": "Memory is coherent: what host or CPU wrote is what any CPU reads, whatever CR0.CD, "
    "MTRRs, PAT, PCD and PWT say. WBINVD does nothing (SDM 3A 11).",
    "TLB": "A walk reads the tables in memory. That no older translation is used is a claim of its "
    "own, no_stale_translation (SDM 3A 4.10).",
    "memory": "Every address holds RAM, or at least keeps what is written to it; no device, DMA or "
    "firmware writes what the code reads.",
    "A20": "Bit 20 of an address is never masked (SDM 3A 8.7.13.4).",
    "errata": "The CPU does what the manual says: no errata, no microcode that changes this.",
    "virtualisation": "No hypervisor: no nested paging, no VM exits (SDM 3C 25, 28).",
    "memory encryption": "No bit of a table entry or of CR3 chooses a key (TME, SME, SEV, TDX).",
    "speculation": "Executed is what the architecture shows; side channels are out of sight.",
    "time": "No claim speaks of it: a wait ends when the word that it waits for changes.",
    "privilege": "All runs at CPL 0; no task switch, virtual-8086 mode or LDT.",
    "other registers": "MSRs but IA32_EFER, debug registers, CR8, XCR0 and the state of x87, SSE "
    "and what came later: code that touches them is refused, not guessed at.",
}
"""Name -> what is taken for granted, with the manual's section."""
