/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wires between the local APICs: an interprocessor interrupt that Python wants delivered now. RDX: the
 * local APIC; EDI, ESI: both halves of its interrupt command register (SDM 3A 11.6.1). 64-bit code.
 */
        .text
        .globl  wires, wires_end
wires:  mov     %edi, 0x310(%rdx)
        mov     %esi, 0x300(%rdx)
wires_end:
        jmp     wires_end

        .section .note.GNU-stack, "", @progbits
