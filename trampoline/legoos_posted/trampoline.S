/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The LegoOS trampoline, behaving exactly as "How trampoline works in Lego" (Yizhou Shan, 3 Mar 2017)
 * describes it, its defects included.
 *
 * Linked flat at address 0 and carried as data in the kernel image (carrier.S). The kernel copies it
 * once to a page below 1 MiB (the base) and sends INIT-SIPI-SIPI to one AP after the other. Each AP
 * starts at offset 0 in real mode and leaves for the kernel in 64-bit mode. The first one adds the
 * base to the two addresses that 32-bit code cannot find out by itself.
 */
#include "legoos.h"
#include "x86.h"

#define OFF(symbol)		((symbol) - trampoline_start)
#define TABLE(n)		(OFF(pgtable) + (n) * PAGE_SIZE)

	.section .text, "ax"
	.balign	PAGE_SIZE

	.code16
	.globl	trampoline_start
trampoline_start:
	cli
	wbinvd
	xorl	%eax, %eax
	movw	%cs, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss

	/* The first AP finds offsets and turns them into linear addresses, for itself and all others. */
	cmpl	$0, OFF(pa_changed)
	jne	1f
	shll	$4, %eax			/* EAX = base */
	addl	%eax, OFF(tr_gdt_base)
	addl	%eax, OFF(startup_32_offset)
	movl	$1, OFF(pa_changed)
1:
	movl	$OFF(tr_stack_end), %esp

	/* No check of CPU features: all CPUs are taken to be like the one that runs the kernel. */

	lidtl	OFF(tr_idt)
	lgdtl	OFF(tr_gdt)			/* 32-bit operand size: the whole base is loaded */

	movl	$DATA, %edx
	movl	$CR0_PE, %eax
	movl	%eax, %cr0
	.byte	0x66, 0xea			/* ljmpl $CODE32, $startup_32 */
	.globl	startup_32_offset
startup_32_offset:
	.long	OFF(startup_32)
	.word	CODE32

	.code32
	.balign	4
	.globl	startup_32
startup_32:
	movl	%edx, %ss
	movl	%edx, %ds
	movl	%edx, %es
	movl	%edx, %fs
	movl	%edx, %gs

	/* EBP = base, from here to the end. */
	call	1f
1:	popl	%ebp
	subl	$OFF(1b), %ebp

	leal	OFF(tr_stack_end)(%ebp), %esp

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4

	/* The tables hold whatever an earlier start left there. */
	leal	TABLE(0)(%ebp), %edi
	xorl	%eax, %eax
	movl	$(6 * PAGE_SIZE / 4), %ecx
	rep stosl

	/* PML4[0] names the PDPT, PDPT[0..3] the four page directories. */
	leal	(TABLE(1) + TABLE_FLAGS)(%ebp), %eax
	movl	%eax, TABLE(0)(%ebp)

	leal	TABLE(1)(%ebp), %edi
	leal	(TABLE(2) + TABLE_FLAGS)(%ebp), %eax
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$PAGE_SIZE, %eax
	addl	$ENTRY_SIZE, %edi
	decl	%ecx
	jnz	1b

	/* The first 4 GiB, mapped to themselves. */
	leal	TABLE(2)(%ebp), %edi
	movl	$LARGE_PAGE_FLAGS, %eax
	movl	$(4 * ENTRIES_PER_TABLE), %ecx
1:	movl	%eax, (%edi)
	addl	$LARGE_PAGE_SIZE, %eax
	addl	$ENTRY_SIZE, %edi
	decl	%ecx
	jnz	1b

	leal	TABLE(0)(%ebp), %eax
	movl	%eax, %cr3

	movl	$MSR_EFER, %ecx
	rdmsr
	btsl	$EFER_LME_BIT, %eax
	wrmsr

	/* Paging on is long mode on; the far return then enters 64-bit code. */
	movl	$(CR0_PG | CR0_WP | CR0_PE), %eax
	movl	%eax, %cr0
	pushl	$CODE64
	leal	OFF(startup_64)(%ebp), %eax
	pushl	%eax
	lret

	.code64
	.balign	4
	.globl	startup_64
startup_64:
	cld
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movq	$LEGOOS_ENTRY, %rax
	jmp	*%rax

/* Not 0: the addresses below and the far jump's are linear ones already. */
	.balign	4, 0
	.globl	pa_changed
pa_changed:
	.long	0

/* No interrupt or exception can be handled here: each becomes a triple fault. */
	.balign	8, 0
	.globl	tr_idt
tr_idt:
	.short	0
	.long	0

/* Slot 0 is never used by the CPU and holds the GDT's own pointer: limit, base. */
	.balign	8, 0
	.globl	tr_gdt, tr_gdt_base, tr_gdt_end
tr_gdt:
	.short	tr_gdt_end - tr_gdt
tr_gdt_base:
	.long	OFF(tr_gdt)
	.short	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
tr_gdt_end:

	.globl	tr_stack, tr_stack_end
tr_stack:
	.skip	STACK_SIZE
tr_stack_end:

	.balign	PAGE_SIZE, 0
	.globl	pgtable, pgtable_end
pgtable:
	.skip	6 * PAGE_SIZE
pgtable_end:

	.section .note.GNU-stack, "", @progbits
