/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where Python stops CPU 0. All of it is 64-bit code, mapped to itself by the tables of
 * harness/qemu/firmware.S.
 */
        .text
        .globl  start
start:  mov     $stack_top, %esp
        cld
        xor     %ebp, %ebp
        call    drive

/* An attempt begins; it has ended, its results stand in memory; the host's caller goes on. */
        .globl  start_of_attempt, end_of_attempt, next_attempt
start_of_attempt:
        ret
end_of_attempt:
        ret
next_attempt:
        ret

        .bss
        .balign 16
        .skip   0x4000
stack_top:

        .section .note.GNU-stack, "", @progbits
