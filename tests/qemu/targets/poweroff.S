/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A target image for tests: switches the machine off, by the ACPI registers of the PIIX4 (PCI 0:1.3):
 * base 0xB000 into PMBA, enable them by PMREGMISC, then SLP_EN with SLP_TYP 0 (soft off) into PMCNTRL.
 */
        .text
        .code16
image:  mov     $0x80000B40, %eax
        mov     $0xCF8, %dx
        out     %eax, %dx
        mov     $0xB001, %eax
        mov     $0xCFC, %dx
        out     %eax, %dx
        mov     $0x80000B80, %eax
        mov     $0xCF8, %dx
        out     %eax, %dx
        mov     $1, %al
        mov     $0xCFC, %dx
        out     %al, %dx
        mov     $0x2000, %ax
        mov     $0xB004, %dx
        out     %ax, %dx
1:      jmp     1b
