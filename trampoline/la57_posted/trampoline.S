/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The switch from 4-level to 5-level paging of a kernel above 4 GiB, behaving as "Re: [PATCH, RFC]
 * x86/boot/compressed/64: Handle 5-level paging boot if kernel is above 4G" (Kirill A. Shutemov,
 * 9 Oct 2017) describes it, its defects included.
 *
 * The image is a piece of the kernel and position independent: it may lie anywhere in physical
 * memory. A boot loader enters it at offset 0 as the Linux 64-bit boot protocol says: 64-bit mode,
 * 4-level paging, memory mapped to itself, interrupts off, RSI = boot_params. CR4.LA57 cannot
 * change in long mode, and 32-bit code neither reaches the image nor can load a CR3 above 4 GiB.
 * So code and a top-level table go to fixed places below 1 MiB (la57.h), and the CPU goes through
 * 32-bit code there. Where the CPU goes on, in the image, RSI is what it was.
 */
#include "la57.h"
#include "x86.h"

/* Where a label of the trampoline is after the copy. */
#define LOW(symbol)		(LA57_TRAMPOLINE + (symbol) - trampoline_32bit)

	.section .text, "ax"
	.balign	PAGE_SIZE

	.code64
	.globl	startup_64
startup_64:
	leaq	gdt(%rip), %rax
	movq	%rax, gdt_base(%rip)
	lgdt	gdt_pointer(%rip)

	/* Nothing to do without 5-level paging, or if it is on already. */
	movl	$CPUID_MORE_FEATURES, %eax
	xorl	%ecx, %ecx
	cpuid
	btl	$CPUID_LA57_BIT, %ecx
	jnc	go_on
	movq	%cr4, %rax
	testl	$CR4_LA57, %eax
	jnz	go_on

	movq	%rsi, %rbx
	leaq	trampoline_32bit(%rip), %rsi
	movl	$LA57_TRAMPOLINE, %edi
	movl	$(trampoline_32bit_end - trampoline_32bit), %ecx
	rep movsb
	movq	%rbx, %rsi

	/* The first 256 TiB of 5 levels are all that 4 levels translate. */
	movq	%cr3, %rax
	orq	$TABLE_FLAGS, %rax
	movq	%rax, LA57_TOP_TABLE

	leaq	go_on(%rip), %rdi
	pushq	$CODE32
	pushq	$LA57_TRAMPOLINE
	lretq

	.globl	paging_enabled
paging_enabled:
go_on:					/* the same, as a local symbol: no relocation is left */
	.skip	GO_ON_SIZE			/* the kernel; not part of the switch */

/* Copied to LA57_TRAMPOLINE and run there. RDI and RSI pass through. */
	.balign	8, 0
trampoline_32bit:
	/* Compatibility mode: 32-bit code under the boot loader's tables. */
	.code32
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss

	movl	%cr0, %eax
	andl	$~CR0_PG, %eax			/* leaves long mode */
	movl	%eax, %cr0

	movl	$LA57_TOP_TABLE, %eax
	movl	%eax, %cr3

	movl	%cr4, %eax
	orl	$(CR4_PAE | CR4_LA57), %eax
	movl	%eax, %cr4

	/* EFER.LME is still set: paging on is long mode on, and the far return enters 64-bit code. */
	pushl	$CODE64
	pushl	$LOW(trampoline_64bit)
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0
	lret

	.code64
trampoline_64bit:
	jmp	*%rdi
trampoline_32bit_end:

	.balign	8, 0
gdt:
	.quad	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
gdt_end:

	.balign	8, 0
gdt_pointer:
	.short	gdt_end - gdt - 1
gdt_base:
	.quad	0

	.section .note.GNU-stack, "", @progbits
