/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: stores what CPUID says of the features that matter here, and parks. */
        .text
        .code16
image:  cli
        mov     %cs, %ax
        mov     %ax, %ds
        mov     $1, %eax
        cpuid
        mov     %edx, leaf_1_edx - image
        mov     $7, %eax
        xor     %ecx, %ecx
        cpuid
        mov     %ecx, leaf_7_ecx - image
        mov     $0x80000001, %eax
        cpuid
        mov     %edx, leaf_80000001_edx - image
        mov     $0x80000008, %eax
        cpuid
        mov     %eax, leaf_80000008_eax - image
1:      hlt
        jmp     1b

        .balign 16
leaf_1_edx:
        .long   0
leaf_7_ecx:
        .long   0
leaf_80000001_edx:
        .long   0
leaf_80000008_eax:
        .long   0
