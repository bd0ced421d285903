/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A target image for tests, entered in 64-bit mode: parks at the first start, having patched its own jump,
 * and jumps to RBX at every later one.
 */
        .text
        .code64
image:  incl    starts(%rip)
jump:   jmp     first
first:  movb    $later - first, jump + 1(%rip)  /* the jump's displacement */
        hlt
parked: jmp     parked
later:  jmp     *%rbx

        .balign 4
starts: .long   0
