/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: real mode; adds its base to the far jump that comes next, takes it, and parks. */
        .text
        .code16
image:  cli
        mov     %cs, %ax
        mov     %ax, %ds
        movzwl  %ax, %ebx
        shl     $4, %ebx
        add     %ebx, gdt + 2 - image
        lgdtl   gdt - image
        mov     $0x11, %eax
        mov     %eax, %cr0
        add     %ebx, jump + 2 - image  /* behind the operand-size prefix and the opcode */
jump:   ljmpl   $0x08, $start32 - image

        .code32
start32:
        hlt
parked: jmp     start32

        .balign 8
gdt:    .word   15
        .long   gdt - image
        .word   0
        .quad   0x00CF9B000000FFFF
