/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The trampoline as the kernel image carries it: as data. 16-bit code cannot be linked into the
 * kernel, so it is linked flat at address 0 by itself (trampoline.bin) and taken in as it is.
 */
	.section .data
	.globl	lego_trampoline_start, lego_trampoline_end
lego_trampoline_start:
	.incbin	"trampoline.bin"
lego_trampoline_end:

	.section .note.GNU-stack, "", @progbits
