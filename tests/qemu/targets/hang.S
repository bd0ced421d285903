/* SPDX-License-Identifier: GPL-2.0-only */
/* A target image for tests: never ends. */
        .text
        .code16
image:  jmp     image
