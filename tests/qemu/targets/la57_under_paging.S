/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests, entered in 64-bit mode: changes CR4.LA57, which long mode forbids. */
        .text
        .code64
image:  mov     %cr4, %rax
        xor     $0x1000, %eax
        mov     %rax, %cr4
        jmp     *%rbx
