/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the small test trampolines have in common: BEGIN, the way into each mode, and DATA with all
 * that a contract must name. ESI is the base in 32-bit code and RSI in 64-bit code.
 */
#include "x86.h"

#define OFF(symbol)	((symbol) - begin)
#define CODE32		0x08
#define CODE64		0x10
#define FLAT		0x18

	.macro	BEGIN
	.code16
begin:
	.endm

	/* Real mode to 32-bit protected mode; DS, ES and SS stay what real mode made of them. */
	.macro	TO_32BIT_ONLY_CS
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	xorl	%esi, %esi
	movw	%cs, %si
	shll	$4, %esi
	leal	OFF(code32)(%esi), %eax
	movl	%eax, OFF(far_pointer)
	leal	OFF(gdt)(%esi), %eax
	movl	%eax, OFF(gdt_pointer) + 2
	lgdtl	OFF(gdt_pointer)
	movw	$CR0_PE, %ax
	lmsw	%ax
	ljmpl	*OFF(far_pointer)
	.code32
code32:
	.endm

	.macro	TO_32BIT
	TO_32BIT_ONLY_CS
	movl	$FLAT, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	leal	OFF(stack_end)(%esi), %esp
	.endm

	/* 32-bit protected mode to 64-bit mode with the first 2 MiB mapped to themselves. */
	.macro	TO_64BIT_UPPER_HALVES_UNKNOWN
	leal	OFF(tables)(%esi), %edi
	leal	(PAGE_SIZE + TABLE_FLAGS)(%edi), %eax
	movl	%eax, (%edi)
	addl	$PAGE_SIZE, %eax
	movl	%eax, PAGE_SIZE(%edi)
	movl	$LARGE_PAGE_FLAGS, 2 * PAGE_SIZE(%edi)
	LEAVE_FOR_64BIT
	.endm

	/* The same once the PML4 at EDI is built. */
	.macro	LEAVE_FOR_64BIT
	movl	%edi, %cr3
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$MSR_EFER, %ecx
	rdmsr
	btsl	$EFER_LME_BIT, %eax
	wrmsr
	pushl	$CODE64
	leal	OFF(code64)(%esi), %eax
	pushl	%eax
	movl	$(CR0_PG | CR0_PE), %eax
	movl	%eax, %cr0
	lret
	.code64
code64:
	.endm

	.macro	TO_64BIT
	TO_64BIT_UPPER_HALVES_UNKNOWN
	movl	%esi, %esi
	movl	%esp, %esp
	.endm

	/* At the same offsets whatever the code before it. */
	.macro	DATA
	.org	begin + 0x400, 0
kernel:
	.quad	0
boot_params:
	.quad	0
status:
	.long	0
scratch:
	.long	0
far_pointer:
	.long	0
	.short	CODE32
	.balign	8, 0
gdt_pointer:
	.short	gdt_end - gdt - 1
	.long	0
	.balign	8, 0
gdt:
	.quad	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
	EXTRA_DESCRIPTORS
gdt_end:
	.skip	64
stack_end:
	.balign	PAGE_SIZE, 0
area:
	.skip	2 * PAGE_SIZE
tables:
	.skip	3 * PAGE_SIZE
tables_end:
	.section .note.GNU-stack, "", @progbits
	.endm
