/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The AP trampoline with a 64-bit entry, hardened: the described one (../start64_posted) with its
 * entries, header and fixups, and as few changes as its findings need:
 *
 * START64-1  two CPUs at once used one stack
 * START64-2  the upper half of the stack pointer, undefined after a mode switch, was handed over
 * START64-3  the direction flag was handed over as found
 * START64-4  so the two entries handed over different ones
 *
 * The kernel copies the image to a page below 1 MiB (the base) and starts an AP in one of two ways:
 * by INIT-SIPI-SIPI at offset 0 in real mode, or by the firmware at trampoline_start64 in 64-bit mode
 * with tables that map the image to itself. Both ways meet in 32-bit code without paging, so that
 * the kernel alone chooses CR4, EFER and the page tables that 64-bit code is entered with again.
 * The AP holds tr_lock from its first instructions on: the kernel sets tr_lock to 0 when this CPU
 * runs on tables, a GDT and a stack of the kernel's own. A CPU without long mode lets go of the lock
 * and halts.
 *
 * A symbol pa_X is the physical address of X. The kernel knows it when it copies the image, and
 * fills it in: each is an undefined symbol here, each place a relocation of 4 bytes. What 64-bit
 * code names relative to RIP is a local symbol: the assembler alone fills that in.
 */
#include "start64.h"
#include "x86.h"

#define OFF(symbol)		((symbol) - trampoline_start)

	.section .text, "ax"
	.balign	PAGE_SIZE

	.code16
	.globl	trampoline_start
real_mode_base:
trampoline_start:
	cli
	wbinvd
	movw	%cs, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss

	/* START64-1: one CPU at a time, until the kernel that it runs has left the image. */
1:	lock btsl	$LOCK_BIT, OFF(tr_lock)
	jnc	2f
	pause
	jmp	1b
2:
	movl	$OFF(rm_stack_end), %esp

	call	check_cpu

	lidtl	OFF(tr_idt)			/* in this mode the first 6 bytes of 10 */
	lgdtl	OFF(tr_gdt)			/* 32-bit operand size: the whole base is loaded */

	movw	$DATA, %dx
	movl	%cr0, %eax
	orl	$CR0_PE, %eax
	movl	%eax, %cr0
	ljmpl	$CODE32, $pa_startup_32

/* Returns on a CPU with long mode and PAE. Clobbers EAX, EBX, ECX and EDX. */
check_cpu:
	movl	$CPUID_EXTENDED, %eax
	cpuid
	cmpl	$CPUID_FEATURES, %eax
	jb	no_long_mode
	movl	$CPUID_FEATURES, %eax
	cpuid
	btl	$CPUID_LM_BIT, %edx
	jnc	no_long_mode
	movl	$CPUID_BASIC_FEATURES, %eax
	cpuid
	btl	$CPUID_PAE_BIT, %edx
	jnc	no_long_mode
	ret

	.globl	no_long_mode
no_long_mode:
	lock btrl	$LOCK_BIT, OFF(tr_lock)	/* START64-1: others may be able to go on */
1:	hlt					/* interrupts are off: for good */
	jmp	1b

	.code64
	.balign	4
	.globl	trampoline_start64
trampoline_start64:
	/* START64-1. Here, while the lock can be reached: compatibility mode has no DS of its own. */
1:	lock btsl	$LOCK_BIT, tr_lock(%rip)
	jnc	2f
	pause
	jmp	1b
2:
	lidt	tr_idt(%rip)
	lgdt	tr_gdt64(%rip)
	ljmpl	*tr_compat(%rip)

	/* Compatibility mode: 32-bit code under the firmware's 64-bit tables. */
	.code32
	.balign	4
	.globl	trampoline_compat
trampoline_compat:
	movl	$OFF(rm_stack_end), %esp
	movw	$DATA, %dx
	movl	$(CR0_NE | CR0_PE), %eax	/* without CR0.PG: leaves long mode */
	movl	%eax, %cr0
	ljmpl	$CODE32, $pa_startup_32

	/* Protected mode without paging. DX = the data selector, ESP an offset from the base. */
	.balign	4
	.globl	startup_32
startup_32:
	movl	%edx, %ss
	addl	$pa_real_mode_base, %esp
	movl	%edx, %ds
	movl	%edx, %es
	movl	%edx, %fs
	movl	%edx, %gs

	movl	pa_tr_cr4, %eax
	movl	%eax, %cr4

	movl	$pa_trampoline_pgd, %eax
	movl	%eax, %cr3

	/* A write that changes nothing is left out: a hypervisor may have to emulate it. */
	movl	$MSR_EFER, %ecx
	rdmsr
	cmpl	pa_tr_efer, %eax
	jne	1f
	cmpl	pa_tr_efer + 4, %edx
	je	2f
1:	movl	pa_tr_efer, %eax
	movl	pa_tr_efer + 4, %edx
	wrmsr
2:
	/* Paging on is long mode on; the far jump then enters 64-bit code. */
	movl	$(CR0_PG | CR0_WP | CR0_NE | CR0_PE), %eax
	movl	%eax, %cr0
	ljmpl	$CODE64, $pa_startup_64

	.code64
	.balign	4
	.globl	startup_64
startup_64:
	cld					/* START64-3, START64-4 */
	movl	%esp, %esp			/* START64-2: undefined above (SDM vol. 1 3.4.1.1) */
	jmp	*tr_start(%rip)

/* Header: written by the kernel before it starts an AP. */
	.balign	8, 0
tr_start:
	.quad	0
tr_efer:
	.quad	0
tr_cr4:
	.long	0

/* START64-1: LOCK_BIT is set while a CPU uses the image. The kernel clears the word. */
	.balign	4, 0
tr_lock:
	.long	0

/* No interrupt or exception can be handled here: each becomes a triple fault. */
	.balign	8, 0
tr_idt:
	.short	0
	.quad	0
tr_idt_end:

/* Slot 0 is never used by the CPU and holds the pointer for real mode: limit, base. */
	.balign	8, 0
	.globl	tr_gdt, tr_gdt_end
tr_gdt:
	.short	tr_gdt_end - tr_gdt - 1
	.long	pa_tr_gdt
tr_gdt_pointer_end:
	.short	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
tr_gdt_end:

/* The pointer for 64-bit mode, whose base has 8 bytes. */
	.balign	8, 0
tr_gdt64:
	.short	tr_gdt_end - tr_gdt - 1
	.long	pa_tr_gdt
	.long	0
tr_gdt64_end:

/* Far pointer: offset, selector. */
	.balign	8, 0
tr_compat:
	.long	pa_trampoline_compat
	.short	CODE32

	.balign	8, 0
	.globl	rm_stack, rm_stack_end
rm_stack:
	.skip	STACK_SIZE
rm_stack_end:

/* The top-level table; the kernel fills it in, and all tables behind it are the kernel's own. */
	.balign	PAGE_SIZE, 0
	.globl	trampoline_pgd, trampoline_pgd_end
trampoline_pgd:
	.skip	PAGE_SIZE
trampoline_pgd_end:

	.section .note.GNU-stack, "", @progbits
