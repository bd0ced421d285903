/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A target image for tests, entered in 64-bit mode anywhere: down to 32-bit code without paging, and up
 * again with other tables and another CR4. The code from `low` on is no part of the image: it is to lie
 * on a page below 4 GiB. It goes on at `back`, where a payload can be put.
 *   RBX: address of that page, RCX: address of the new tables, EDX: the new CR4.
 */
        .text
        .code64
image:  lea     gdt(%rip), %rax         /* above 4 GiB, if the image is */
        mov     %rax, gdt_pointer + 2(%rip)
        lgdt    gdt_pointer(%rip)
        lea     back(%rip), %rdi
        mov     %ebx, far32(%rip)
        ljmp    *far32(%rip)

back:   .fill   512, 1, 0xF4

        .balign 8
gdt:    .quad   0, 0x00CF9B000000FFFF, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .quad   0
far32:  .long   0
        .word   0x08
image_end:

        .code32
low:    mov     $0x18, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %cr0, %eax
        and     $0x7FFFFFFF, %eax       /* CR0.PG */
        mov     %eax, %cr0
        mov     %ecx, %cr3
        mov     %edx, %cr4
        lea     0x1000(%ebx), %esp
        lea     tail - low(%ebx), %ebp
        push    $0x10
        push    %ebp
        or      $0x80000000, %eax
        mov     %eax, %cr0
to_64:  lret
        .code64
tail:   jmp     *%rdi
