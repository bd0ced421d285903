/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The least that brings a CPU from SIPI to 64-bit mode: the first 4 GiB are mapped to themselves, and
 * a kernel or boot_params that does not lie there, or meets the image, is refused.
 */
#include "x86.h"

#define OFF(symbol)	((symbol) - entry)
#define LAST_START	0xfffff000	/* a page from here on still lies below 4 GiB */

	.section .text, "ax"
	.balign	PAGE_SIZE
	.code16
	.globl	entry
entry:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	movl	$1, OFF(status)
	xorl	%esi, %esi
	movw	%ax, %si
	shll	$4, %esi			/* ESI = base */
	leal	OFF(gdt)(%esi), %eax
	movl	%eax, OFF(gdt) + 2
	leal	OFF(code32)(%esi), %eax
	movl	%eax, OFF(far_pointer)
	lidtl	OFF(idt_pointer)
	lgdtl	OFF(gdt)
	movw	$CR0_PE, %ax
	lmsw	%ax
	ljmpl	*OFF(far_pointer)

	.code32
	.globl	code32
code32:
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	leal	OFF(stack_end)(%esi), %esp

	leal	OFF(tables)(%esi), %edi
	xorl	%eax, %eax
	movl	$(6 * PAGE_SIZE / 4), %ecx
	cld
	rep stosl
	leal	(OFF(pdpt) + TABLE_FLAGS)(%esi), %eax
	movl	%eax, OFF(pml4)(%esi)
	leal	(OFF(pd) + TABLE_FLAGS)(%esi), %eax
	movl	%eax, OFF(pdpt)(%esi)
	addl	$PAGE_SIZE, %eax
	movl	%eax, OFF(pdpt) + 8(%esi)
	addl	$PAGE_SIZE, %eax
	movl	%eax, OFF(pdpt) + 16(%esi)
	addl	$PAGE_SIZE, %eax
	movl	%eax, OFF(pdpt) + 24(%esi)
	leal	OFF(pd)(%esi), %edi
	movl	$LARGE_PAGE_FLAGS, %eax
	movl	$(4 * ENTRIES_PER_TABLE), %ecx
1:	movl	%eax, (%edi)
	addl	$LARGE_PAGE_SIZE, %eax
	addl	$ENTRY_SIZE, %edi
	decl	%ecx
	jnz	1b

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	leal	OFF(pml4)(%esi), %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	btsl	$EFER_LME_BIT, %eax
	wrmsr
	pushl	$0x10
	leal	OFF(code64)(%esi), %eax
	pushl	%eax
	movl	$(CR0_PG | CR0_PE), %eax
	movl	%eax, %cr0
	lret

	.code64
	.globl	code64
code64:
	movl	%esi, %esi			/* upper halves are undefined */
	movl	%esp, %esp
	movq	OFF(kernel_word)(%rsi), %r14
	movq	OFF(boot_params_word)(%rsi), %r15
	movl	$LAST_START, %eax
	leaq	1 - PAGE_SIZE(%rsi), %rcx	/* a page from here on meets the image */
	movl	$2, %ebx
	cmpq	%rax, %r14
	ja	refuse
	movq	%r14, %rdx
	subq	%rcx, %rdx
	cmpq	$(OFF(tables_end) + PAGE_SIZE - 1), %rdx
	jb	refuse
	movl	$3, %ebx
	cmpq	%rax, %r15
	ja	refuse
	movq	%r15, %rdx
	subq	%rcx, %rdx
	cmpq	$(OFF(tables_end) + PAGE_SIZE - 1), %rdx
	jb	refuse
	movq	%r15, %rsi
	jmp	*%r14
refuse:
	movl	%ebx, OFF(status)(%rsi)
	hlt

	.balign	8, 0
	.globl	kernel_word, boot_params_word, status, far_pointer, gdt, gdt_end, stack, stack_end
kernel_word:
	.quad	0
boot_params_word:
	.quad	0
status:
	.long	0
far_pointer:
	.long	0
	.short	0x08
idt_pointer:
	.short	0
	.long	0
	.balign	8, 0
gdt:
	.short	gdt_end - gdt - 1
	.long	0
	.short	0
	.quad	DESC_CODE32
	.quad	DESC_CODE64
	.quad	DESC_DATA
gdt_end:
stack:
	.skip	64
stack_end:

	.balign	PAGE_SIZE, 0
	.globl	tables, tables_end
tables:
pml4:
	.skip	PAGE_SIZE
pdpt:
	.skip	PAGE_SIZE
pd:
	.skip	4 * PAGE_SIZE
tables_end:
