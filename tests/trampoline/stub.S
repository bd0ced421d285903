/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an emulated CPU runs before and after an image (emulated.py): a firmware that enters it in
 * 64-bit mode, and a payload that notes what it finds. All of it is copied to STUB_BASE and entered
 * at its start in real mode; the words say what to hand over.
 */
#include "x86.h"

#define STUB_BASE	0x2000
#define REPORT		0x3000
#define AT(symbol)	(STUB_BASE + (symbol) - stub)

	.section .text, "ax"
	.code16
stub:	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	gdt_pointer - stub
	movl	$CR0_PE, %eax
	movl	%eax, %cr0
	ljmpl	$0x08, $AT(1f)

	.code32
1:	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	AT(word_cr4), %eax
	movl	%eax, %cr4
	movl	AT(word_cr3), %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	movl	AT(word_efer), %eax
	xorl	%edx, %edx
	wrmsr
	movl	AT(word_cr0), %eax
	movl	%eax, %cr0
	ljmpl	$0x10, $AT(2f)

	.code64
2:	movl	$(REPORT + 0x1000), %esp
	pushq	AT(word_rflags)
	popfq
	movq	AT(word_rsi), %rsi
	movq	AT(word_rsp), %rsp
	jmp	*AT(word_entry)

/* 64-bit code; may be copied anywhere. Notes 8 bytes each, in the order of NOTED in emulated.py. */
payload:
	movq	%rsi, REPORT
	movq	%rsp, REPORT + 0x08
	movl	$(REPORT + 0x1000), %esp
	pushfq
	popq	REPORT + 0x10
	movq	%cr0, %rax
	movq	%rax, REPORT + 0x18
	movq	%cr3, %rax
	movq	%rax, REPORT + 0x20
	movq	%cr4, %rax
	movq	%rax, REPORT + 0x28
	movl	$MSR_EFER, %ecx
	rdmsr
	movl	%eax, REPORT + 0x30
	movl	%edx, REPORT + 0x34
	movw	%cs, REPORT + 0x38
	movw	%ds, REPORT + 0x40
	movw	%es, REPORT + 0x48
	movw	%ss, REPORT + 0x50
	movw	%fs, REPORT + 0x58
	movw	%gs, REPORT + 0x60
	sgdt	REPORT + 0x6e			/* limit in the upper 2 bytes of 8, then base */
	leaq	payload(%rip), %rax
	movq	%rax, REPORT + 0x78
	hlt
payload_end:

	.balign	8, 0
word_entry:	.quad 0
word_rsi:	.quad 0
word_rsp:	.quad 0
word_rflags:	.quad 0
word_cr0:	.quad 0
word_cr3:	.quad 0
word_cr4:	.quad 0
word_efer:	.quad 0
gdt:	.quad	0, DESC_CODE32, DESC_CODE64, DESC_DATA
gdt_pointer:
	.short	gdt_pointer - gdt - 1
	.long	AT(gdt)

	.section .note.GNU-stack, "", @progbits
