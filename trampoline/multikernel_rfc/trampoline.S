/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The multikernel BSP trampoline, behaving exactly as "[RFC Patch 2/7] x86: Introduce SMP INIT
 * trampoline for multikernel CPU bootstrap" (Cong Wang, 18 Sep 2025) does, its defects included.
 *
 * The host copies the image to a page below 1 MiB (the base), writes the two mailbox words and
 * sends INIT-SIPI-SIPI. The target CPU starts at offset 0 in real mode and leaves for the kernel
 * in 64-bit mode. The base is not known at build time: everything is relative to it.
 */
#include "multikernel.h"
#include "x86.h"

#define OFF(symbol)		((symbol) - trampoline_data_bsp)
#define TABLE(n)		(OFF(pgtable_bsp) + (n) * PAGE_SIZE)

/* A GDT's slot 0 is never used by the CPU and holds the GDT's own pointer: limit, base. */
#define POINTER_BASE		2

	.section .text, "ax"
	.balign	PAGE_SIZE

	.code16
	.globl	trampoline_data_bsp
trampoline_data_bsp:
	cli
	wbinvd
	movw	%cs, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss

	movl	$STATUS_STARTED, OFF(trampoline_status_bsp)

	movw	$OFF(trampoline_stack_bsp_end), %sp

	/* No check of CPU features: the host's CPUs are taken to be alike. */

	xorl	%esi, %esi
	movw	%cs, %si
	shll	$4, %esi			/* ESI = base, from here to the end */

	/* Linear addresses become known now. */
	leal	OFF(startup_32_bsp)(%esi), %eax
	movl	%eax, OFF(startup_32_vector_bsp)
	leal	OFF(startup_64_bsp)(%esi), %eax
	movl	%eax, OFF(startup_64_vector_bsp)
	leal	OFF(tgdt_bsp)(%esi), %eax
	movl	%eax, OFF(tgdt_bsp) + POINTER_BASE

	lidtl	OFF(tidt_bsp)
	lgdtl	OFF(tgdt_bsp)			/* 32-bit operand size: the whole base is loaded */

	movw	$CR0_PE, %ax
	lmsw	%ax
	ljmpl	*OFF(startup_32_vector_bsp)

	.code32
	.balign	4
	.globl	startup_32_bsp
startup_32_bsp:
	cli
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss

	leal	OFF(gdt_bsp_64)(%esi), %eax
	movl	%eax, OFF(gdt_bsp_64) + POINTER_BASE(%esi)
	lgdt	OFF(gdt_bsp_64)(%esi)

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4

	/* The tables hold whatever an earlier start left there. */
	leal	TABLE(0)(%esi), %edi
	xorl	%eax, %eax
	movl	$(6 * PAGE_SIZE / 4), %ecx
	rep stosl

	/* PML4[0] names the PDPT, PDPT[0..3] the four page directories. */
	leal	(TABLE(1) + TABLE_FLAGS)(%esi), %eax
	movl	%eax, TABLE(0)(%esi)

	leal	TABLE(1)(%esi), %edi
	leal	(TABLE(2) + TABLE_FLAGS)(%esi), %eax
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$PAGE_SIZE, %eax
	addl	$ENTRY_SIZE, %edi
	decl	%ecx
	jnz	1b

	/* The first 4 GiB, mapped to themselves. */
	leal	TABLE(2)(%esi), %edi
	movl	$LARGE_PAGE_FLAGS, %eax
	movl	$(4 * ENTRIES_PER_TABLE), %ecx
1:	movl	%eax, (%edi)
	addl	$LARGE_PAGE_SIZE, %eax
	addl	$ENTRY_SIZE, %edi
	decl	%ecx
	jnz	1b

	leal	TABLE(0)(%esi), %eax
	movl	%eax, %cr3

	movl	$MSR_EFER, %ecx
	rdmsr
	btsl	$EFER_LME_BIT, %eax
	wrmsr

	/* Paging on is long mode on; the far return then enters 64-bit code. */
	pushl	$CODE64
	leal	OFF(startup_64_bsp)(%esi), %eax
	pushl	%eax
	movl	$(CR0_PG | CR0_PE), %eax
	movl	%eax, %cr0
	lret

	.code64
	.balign	4
	.globl	startup_64_bsp
startup_64_bsp:
	movq	OFF(boot_params_phys_addr)(%rsi), %r15
	movq	OFF(kernel_phys_addr)(%rsi), %r14

	/* A kernel at 4 GiB or above gets one page directory of its own. */
	movq	%r14, %rax
	shrq	$32, %rax
	jz	2f

	movq	%r14, %rax
	shrq	$PD_SHIFT, %rax
	shlq	$PD_SHIFT, %rax			/* RAX = start of the kernel's GiB */

	movq	%rax, %rdi
	shrq	$(PD_SHIFT - 3), %rdi		/* its number, times ENTRY_SIZE */
	leaq	(OFF(pgtable_extra_bsp) + TABLE_FLAGS)(%rsi), %rbx
	movq	%rbx, TABLE(1)(%rsi, %rdi)

	leaq	OFF(pgtable_extra_bsp)(%rsi), %rdi
	addq	$LARGE_PAGE_FLAGS, %rax
	movl	$ENTRIES_PER_TABLE, %ecx
1:	movq	%rax, (%rdi)
	addq	$LARGE_PAGE_SIZE, %rax
	addq	$ENTRY_SIZE, %rdi
	decl	%ecx
	jnz	1b

2:	movq	%r15, %rsi
	jmp	*%r14

/* Mailbox: written by the host before each start. */
	.balign	8, 0
	.globl	boot_params_phys_addr, kernel_phys_addr
boot_params_phys_addr:
	.quad	0
kernel_phys_addr:
	.quad	0

/* No interrupt or exception can be handled here: each becomes a triple fault. */
	.balign	8, 0
	.globl	tidt_bsp
tidt_bsp:
	.short	0
	.long	0

/* For protected mode and the far return to 64-bit code. */
	.balign	8, 0
	.globl	tgdt_bsp, tgdt_bsp_end
tgdt_bsp:
	.short	tgdt_bsp_end - tgdt_bsp
	.long	0
	.short	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
tgdt_bsp_end:

/* The GDT that the kernel is entered with. */
	.balign	8, 0
	.globl	gdt_bsp_64, gdt_bsp_64_end
gdt_bsp_64:
	.short	gdt_bsp_64_end - gdt_bsp_64
	.long	0
	.short	0
	.quad	0
	.quad	DESC_CODE64_FRESH
	.quad	DESC_DATA_FRESH
	.quad	DESC_TSS_LOW
	.quad	DESC_TSS_HIGH
gdt_bsp_64_end:

/* Far pointers: offset, selector, pad. */
	.balign	8, 0
	.globl	startup_32_vector_bsp, startup_64_vector_bsp
startup_32_vector_bsp:
	.long	0
	.short	CODE32
	.short	0
startup_64_vector_bsp:
	.long	0
	.short	CODE64
	.short	0

	.globl	trampoline_status_bsp, trampoline_location
	.balign	4, 0
trampoline_status_bsp:
	.long	0
	.balign	8, 0
trampoline_location:
	.quad	0

	.globl	trampoline_stack_bsp, trampoline_stack_bsp_end
trampoline_stack_bsp:
	.skip	PAGE_SIZE
trampoline_stack_bsp_end:

	.balign	PAGE_SIZE, 0
	.globl	pgtable_bsp, pgtable_extra_bsp, pgtable_extra_bsp_end
pgtable_bsp:
	.skip	6 * PAGE_SIZE
pgtable_extra_bsp:
	.skip	PAGE_SIZE
pgtable_extra_bsp_end:

	.section .note.GNU-stack, "", @progbits
