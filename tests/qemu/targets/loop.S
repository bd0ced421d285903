/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: goes round a loop five times, then halts. */
        .text
        .code16
image:  cli
        mov     $5, %cx
again:  dec     %cx
        jnz     again
parked: hlt
        jmp     parked
