/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: refuses. First the started value, after a while the refusal, then it halts. */
        .text
        .code16
image:  cli
        movl    $0xA5A5A5A5, %cs:(status - image)
        mov     $10000, %ecx
1:      dec     %ecx
        jnz     1b
        movl    $0xBAD00001, %cs:(status - image)
parked: hlt
        jmp     parked
        .balign 4
status: .long   0
