/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel that an attempt starts: a copy for each attempt. It arrives on the area's tables, takes
 * tables of its own, frees the area if the protocol says so, and halts.
 */
#include "protocol.h"

        .section .rodata
        .globl  payload, payload_left, payload_end
payload:
        mov     $ROM_BASE, %eax         /* the PML4 of firmware.S */
        mov     %rax, %cr3
        cmpl    $0, leaves
        je      payload_left
        mov     leave_word, %rdx
        mov     leave_from, %eax
        mov     leave_to, %ecx
        lock cmpxchgl %ecx, (%rdx)
payload_left:
        hlt
        jmp     payload_left
payload_end:

        .section .note.GNU-stack, "", @progbits
