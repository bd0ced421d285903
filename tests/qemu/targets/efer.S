/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A target image for tests: sets EFER.LME and NXE, reads EFER before and after, and parks. With no IDT that
 * could be used a #GP is a shutdown, and `wrote` stays 0.
 */
        .text
        .code16
image:  cli
        mov     %cs, %ax
        mov     %ax, %ds
        lidtl   no_idt - image
        mov     $0xC0000080, %ecx
        rdmsr
        mov     %eax, before - image
        mov     $0x900, %eax
        wrmsr
        movl    $1, wrote - image
        rdmsr
        mov     %eax, after - image
1:      hlt
        jmp     1b

        .balign 8
no_idt: .word   0
        .long   0
        .balign 16
before: .long   ~0
wrote:  .long   0
after:  .long   ~0
