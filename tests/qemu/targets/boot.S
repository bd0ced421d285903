/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A target image for tests: real mode to 64-bit mode, RSI = boot_params, jump to kernel. It maps
 * 0..1 TiB to itself with static 1 GiB pages and trusts everybody. With WRONG_MODE defined it jumps to
 * the low half of kernel from 32-bit code.
 */
        .text
        .code16
image:  cli
        mov     %cs, %ax
        mov     %ax, %ds
        xor     %esi, %esi
        mov     %ax, %si
        shl     $4, %esi                /* base */
        add     %esi, far32 - image
        add     %esi, far64 - image
        add     %esi, gdt + 2 - image
        add     %esi, pml4 - image
        add     %esi, pml4 + 8 - image
        lidtl   empty_idt - image
        lgdtl   gdt - image
        mov     $0x11, %eax
        mov     %eax, %cr0
        ljmpl   *(far32 - image)

        .code32
start32:
        mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
#ifdef WRONG_MODE
        jmp     *kernel - image(%esi)
#endif
        mov     $0x20, %eax             /* CR4.PAE */
        mov     %eax, %cr4
        lea     pml4 - image(%esi), %eax
        mov     %eax, %cr3
        mov     $0xC0000080, %ecx
        rdmsr
        or      $0x100, %eax            /* EFER.LME */
        wrmsr
        mov     $0x80000011, %eax       /* CR0.PG */
        mov     %eax, %cr0
        ljmp    *far64 - image(%esi)

        .code64
start64:
        mov     kernel - image(%rsi), %r14
        mov     boot_params - image(%rsi), %rsi
        movabs  $0x1111222233334444, %rax
        movabs  $0x5555666677778888, %r15
        jmp     *%r14

        .balign 8
boot_params:
        .quad   0
kernel: .quad   0
empty_idt:
        .word   0
        .long   0
        .balign 8
gdt:    .word   gdt_end - gdt - 1
        .long   gdt - image
        .word   0
        .quad   0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdt_end:
far32:  .long   start32 - image
        .word   0x08
        .balign 4
far64:  .long   start64 - image
        .word   0x10

        .balign 0x1000
pml4:   .quad   pdpt - image + 7, pdpt - image + 0x1007
        .fill   510, 8, 0
pdpt:   .set    gib, 0
        .rept   1024
        .quad   (gib << 30) + 0x83
        .set    gib, gib + 1
        .endr
