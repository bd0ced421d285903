/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The switch from 4-level to 5-level paging of a kernel above 4 GiB, hardened: the described one
 * (../la57_posted) with its places, labels and tables, and as few changes as its findings need:
 *
 * LA57-1  RSI and the address to go on at crossed 32-bit code in registers: upper halves were lost;
 *         and the direction flag was taken for clear while the trampoline was copied
 * LA57-2  the boot loader's stack was used: above 4 GiB, 32-bit code pushed elsewhere and lost the
 *         upper half of RSP. LA57-3, LA57-5, LA57-6: that could be the new table, memory that is
 *         nobody's business, or the copy
 * LA57-4  32-bit code used a GDT above 4 GiB, of whose address only the lower half is kept there;
 *         bits 11:0 of CR3 went into a table entry, where some are reserved or mean other things;
 *         CPUID leaf 7 was asked of CPUs that have fewer leaves, and answer with those of another
 * LA57-7  the segment registers that the boot loader left stayed in force without the switch
 *
 * The image is a piece of the kernel and position independent: it may lie anywhere in physical
 * memory. A boot loader enters it at offset 0 as the Linux 64-bit boot protocol says: 64-bit mode,
 * 4-level paging, memory mapped to itself, interrupts off, RSI = boot_params. CR4.LA57 cannot
 * change in long mode, and 32-bit code neither reaches the image nor can load a CR3 above 4 GiB.
 * So code and a top-level table go to fixed places below 1 MiB (la57.h), and the CPU goes through
 * 32-bit code there. Where the CPU goes on, in the image, RSI and RSP are what they were, CS is
 * CODE64, and all other segment registers are DATA of the image's own GDT.
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
	cld					/* LA57-1 */

	/* Nothing to do without 5-level paging, or if it is on already. */
	movl	$CPUID_BASIC, %eax
	cpuid
	cmpl	$CPUID_MORE_FEATURES, %eax	/* LA57-4 */
	jb	own_gdt
	movl	$CPUID_MORE_FEATURES, %eax
	xorl	%ecx, %ecx
	cpuid
	btl	$CPUID_LA57_BIT, %ecx
	jnc	own_gdt
	movq	%cr4, %rax
	testl	$CR4_LA57, %eax
	jnz	own_gdt

	movq	%rsi, %rbx
	leaq	trampoline_32bit(%rip), %rsi
	movl	$LA57_TRAMPOLINE, %edi
	movl	$(trampoline_32bit_end - trampoline_32bit), %ecx
	rep movsb

	/* LA57-1, LA57-2: 64-bit values cross 32-bit code in memory. */
	movq	%rbx, LOW(saved_rsi)
	movq	%rsp, LOW(saved_rsp)
	leaq	own_gdt(%rip), %rax
	movq	%rax, LOW(saved_target)

	/* The first 256 TiB of 5 levels are all that 4 levels translate. */
	movq	%cr3, %rax
	movq	$CR3_ADDRESS_MASK, %rcx		/* LA57-4 */
	andq	%rcx, %rax
	orq	$TABLE_FLAGS, %rax
	movq	%rax, LA57_TOP_TABLE

	lgdt	LOW(low_gdt_pointer)		/* LA57-4 */
	ljmpl	*LOW(far_32bit)			/* LA57-2 */

	/*
	 * Both ways meet. LA57-4: the GDT that stays is loaded here, by 64-bit code, which loads its
	 * whole address. CS is CODE64 on both ways: the boot loader's, or that of the far jump.
	 */
own_gdt:
	leaq	gdt(%rip), %rax
	movq	%rax, gdt_base(%rip)
	lgdt	gdt_pointer(%rip)
	movl	$DATA, %eax			/* LA57-7 */
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs

	.globl	paging_enabled
paging_enabled:
	.skip	GO_ON_SIZE			/* the kernel; not part of the switch */

/* Copied to LA57_TRAMPOLINE and run there. */
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

	/* EFER.LME is still set: paging on is long mode on. LA57-2: no stack, so a far jump. */
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0
	ljmpl	$CODE64, $LOW(trampoline_64bit)

	.code64
trampoline_64bit:
	movq	saved_rsi(%rip), %rsi		/* LA57-1 */
	movq	saved_rsp(%rip), %rsp		/* LA57-2 */
	jmp	*saved_target(%rip)

/* LA57-1, LA57-2: written in the copy, behind its code. */
	.balign	8, 0
saved_rsi:
	.quad	0
saved_rsp:
	.quad	0
saved_target:
	.quad	0

/* Far pointer to the copy: offset, selector. */
far_32bit:
	.long	LA57_TRAMPOLINE
	.short	CODE32

/* LA57-4: what 32-bit code uses lies below 4 GiB. */
	.balign	8, 0
low_gdt:
	.quad	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
low_gdt_end:
low_gdt_pointer:
	.short	low_gdt_end - low_gdt - 1
	.quad	LOW(low_gdt)
trampoline_32bit_end:

/* The GDT that the kernel goes on with. */
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
