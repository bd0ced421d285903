/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: shuts down at once. */
        .text
        .code16
image:  lidtl   %cs:(empty_idt - image)
        ud2
empty_idt:
        .word   0
        .long   0
