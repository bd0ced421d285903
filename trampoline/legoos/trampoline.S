/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The LegoOS trampoline, hardened: the described one (../legoos_posted) with its shape, tables and
 * kernel entry, and as few changes as its findings need:
 *
 * LEGO-1  the stack pointer stayed relative to the image in flat 32-bit code
 * LEGO-2  the limit of the GDT was one too large
 * LEGO-3  a CPU without long mode ended in a fault
 * LEGO-4  two CPUs at once: one zeroed the tables and used the stack that the other one ran on, and
 *         both could add the base to the addresses that are patched, which left them wrong for good
 * LEGO-5  the direction flag was taken for clear while the tables were zeroed
 *
 * Linked flat at address 0 and carried as data in the kernel image (carrier.S). The kernel copies it
 * once to a page below 1 MiB (the base) and sends INIT-SIPI-SIPI to APs, one or many. Each AP starts
 * at offset 0 in real mode and leaves for the kernel in 64-bit mode, with RBP = base and RSP = the
 * end of the stack. It holds tr_lock from its first instructions on: the kernel sets tr_lock to 0
 * when this CPU runs on tables, a GDT and a stack of the kernel's own. A CPU without long mode lets
 * go of the lock and halts.
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
	shll	$4, %eax
	movl	%eax, %ebp			/* EBP = base, from here to the end */

	/* LEGO-4: one CPU at a time, until its kernel has left the image. */
1:	lock btsl	$LOCK_BIT, OFF(tr_lock)
	jnc	2f
	pause
	jmp	1b
2:
	/* LEGO-3: a CPU without long mode is told from others while it can still give way to them. */
	movl	$CPUID_EXTENDED, %eax
	cpuid
	cmpl	$CPUID_FEATURES, %eax
	jb	no_long_mode
	movl	$CPUID_FEATURES, %eax
	cpuid
	btl	$CPUID_LM_BIT, %edx
	jnc	no_long_mode

	/*
	 * LEGO-4: whole addresses, which each start writes anew. The far jump below is changed code:
	 * MOV to CR0 serialises before it is fetched (SDM vol. 3A 9.1.3 and 9.3).
	 */
	leal	OFF(tr_gdt)(%ebp), %eax
	movl	%eax, OFF(tr_gdt_base)
	leal	OFF(startup_32)(%ebp), %eax
	movl	%eax, OFF(startup_32_offset)

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

no_long_mode:
	lock btrl	$LOCK_BIT, OFF(tr_lock)
1:	hlt					/* interrupts are off: for good */
	jmp	1b

	.code32
	.balign	4
	.globl	startup_32
startup_32:
	movl	%edx, %ss
	movl	%edx, %ds
	movl	%edx, %es
	movl	%edx, %fs
	movl	%edx, %gs

	/* LEGO-1: the stack segment is flat from here on, so the stack pointer is linear. */
	leal	OFF(tr_stack_end)(%ebp), %esp

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4

	/* The tables hold whatever an earlier start left there. */
	leal	TABLE(0)(%ebp), %edi
	xorl	%eax, %eax
	movl	$(6 * PAGE_SIZE / 4), %ecx
	cld					/* LEGO-5 */
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
	/* LEGO-5: upper halves are undefined after the mode switch (SDM vol. 1 3.4.1.1). */
	movl	%ebp, %ebp
	movl	%esp, %esp
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movq	$LEGOOS_ENTRY, %rax
	jmp	*%rax

/* LOCK_BIT is set while a CPU uses the image. The kernel clears the word. */
	.balign	4, 0
	.globl	tr_lock
tr_lock:
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
	.short	tr_gdt_end - tr_gdt - 1		/* LEGO-2: the last valid offset */
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
