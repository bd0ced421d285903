/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The multikernel BSP trampoline, hardened: the RFC's (../multikernel_rfc) with its symbols, mailbox,
 * status marker and entry convention, and as few changes as its findings need:
 *
 * MKRFC-1  a kernel at 512 GiB or above overwrote a table in use, or was not reached
 * MKRFC-2  only the GiB that the kernel starts in was mapped, not the kernel to its end
 * MKRFC-3  boot_params at 4 GiB or above was not mapped
 * MKRFC-4  the stack pointer stayed relative to the image in flat 32-bit code
 * MKRFC-5  64-bit code used upper register halves that a mode switch leaves undefined, and the
 *          direction flag was taken for clear
 * MKRFC-7  the limits of both GDTs were one too large
 * MKRFC-8  a CPU without long mode, or an address beyond what can be mapped, ended in a fault
 * MKRFC-9  writes left the area that each start builds anew
 * MKRFC-10 a kernel that meets the image was entered, though damaged
 * MKRFC-11 a table was linked before it was filled, with what an earlier start had left in it
 *
 * The host copies the image to a page below 1 MiB (the base), writes the two mailbox words and
 * sends INIT-SIPI-SIPI. The target CPU starts at offset 0 in real mode and leaves for the kernel
 * in 64-bit mode with the kernel's first KERNEL_SIZE_MAX bytes and boot_params mapped to
 * themselves. What no table can map is refused: the status word says so and the CPU halts.
 * The base is not known at build time: everything is relative to it.
 */
#include "multikernel.h"
#include "x86.h"

#define OFF(symbol)		((symbol) - trampoline_data_bsp)
#define TABLE(n)		(OFF(pgtable_bsp) + (n) * PAGE_SIZE)

/* A GDT's slot 0 is never used by the CPU and holds the GDT's own pointer: limit, base. */
#define POINTER_BASE		2

/*
 * Tables beside those of the first 4 GiB: a PDPT and a page directory for each of the at most
 * four GiB that the kernel's and boot_params' first and last bytes lie in.
 */
#define EXTRA_TABLES		8

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

	/*
	 * Claim the area (../PROTOCOL.md): only the CPU that it is offered to, and while it is. A
	 * late or second SIPI, or one to a CPU that the host has given up, ends here.
	 */
	movl	$CPUID_BASIC_FEATURES, %eax
	cpuid
	shrl	$CPUID_APIC_ID_SHIFT, %ebx
	leal	STATUS_OFFERED(%ebx), %eax
	movl	$STATUS_STARTED, %ecx
	lock cmpxchgl	%ecx, OFF(trampoline_status_bsp)
	jne	park

	/* MKRFC-8: a CPU without long mode is refused while that is still possible. */
	movl	$CPUID_EXTENDED, %eax
	cpuid
	cmpl	$CPUID_FEATURES, %eax
	jb	refuse_cpu
	movl	$CPUID_FEATURES, %eax
	cpuid
	btl	$CPUID_LM_BIT, %edx
	jnc	refuse_cpu

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

refuse_cpu:
	movl	$STATUS_STARTED, %eax
	movl	$STATUS_REFUSED_CPU, %ecx
	lock cmpxchgl	%ecx, OFF(trampoline_status_bsp)
park:	hlt					/* interrupts are off: for good */
	jmp	park

	.code32
	.balign	4
	.globl	startup_32_bsp
startup_32_bsp:
	cli
	movl	$DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs			/* MKRFC-5: not left as found */
	movl	%eax, %gs
	/* MKRFC-4: the stack segment is flat from here on, so the stack pointer is linear. */
	leal	OFF(trampoline_stack_bsp_end)(%esi), %esp

	leal	OFF(gdt_bsp_64)(%esi), %eax
	movl	%eax, OFF(gdt_bsp_64) + POINTER_BASE(%esi)
	lgdt	OFF(gdt_bsp_64)(%esi)

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4

	/* The tables hold whatever an earlier start left there. MKRFC-11: clear all of them. */
	leal	TABLE(0)(%esi), %edi
	xorl	%eax, %eax
	movl	$((6 + EXTRA_TABLES) * PAGE_SIZE / 4), %ecx
	cld					/* MKRFC-5 */
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
	/* MKRFC-5: upper halves are undefined after the mode switch (SDM vol. 1 3.4.1.1). */
	movl	%esi, %esi
	movl	%esp, %esp

	movq	OFF(boot_params_phys_addr)(%rsi), %r15
	movq	OFF(kernel_phys_addr)(%rsi), %r14

	/* R13 = the last physical address: 2^MAXPHYADDR - 1, with MAXPHYADDR in CPUID's AL. */
	movl	$CPUID_ADDRESS_SIZES, %eax
	cpuid
	movl	%eax, %ecx
	movl	$1, %r13d
	shlq	%cl, %r13
	decq	%r13

	/* MKRFC-1: refuse what cannot be mapped, before any table is touched. */
	movl	$STATUS_REFUSED_KERNEL, %ebx
	movq	%r14, %rdi
	movl	$(KERNEL_SIZE_MAX - 1), %eax
	call	last_byte
	movq	%rax, %r12

	movl	$STATUS_REFUSED_BOOT_PARAMS, %ebx
	movq	%r15, %rdi
	movl	$(BOOT_PARAMS_SIZE - 1), %eax
	call	last_byte
	movq	%rax, %rbp

	/*
	 * MKRFC-2, MKRFC-3: map the GiB of each range's first and last byte. Neither range is
	 * longer than 1 GiB, so nothing lies between the two.
	 */
	leaq	OFF(pgtable_extra_bsp)(%rsi), %rdx
	movq	%r14, %rax
	call	map_gib
	movq	%r12, %rax
	call	map_gib
	movq	%r15, %rax
	call	map_gib
	movq	%rbp, %rax
	call	map_gib

	/* Commit: from here on the host cannot give this start up. */
	movl	$STATUS_STARTED, %eax
	movl	$STATUS_RUNNING, %ecx
	lock cmpxchgl	%ecx, OFF(trampoline_status_bsp)(%rsi)
	jne	given_up

	movq	%r15, %rsi
	jmp	*%r14

/*
 * RAX := the last byte of the range of RAX + 1 bytes at RDI, cut off at R13. Does not return if
 * the range cannot be mapped to itself or meets the image; EBX then goes into the status word.
 * One branch for all reasons, so that they take one path. Clobbers RCX, RDX and R8.
 */
last_byte:
	cmpq	%r13, %rdi
	seta	%cl				/* starts beyond what the CPU can address */
	addq	%rdi, %rax			/* no carry, or RDI is beyond R13 */
	cmpq	%r13, %rax
	cmovaq	%r13, %rax
	movq	%rax, %r8
	shrq	$IDENTITY_BITS, %r8
	setnz	%ch				/* ends beyond what 4 levels map to itself */
	orb	%ch, %cl
	/* MKRFC-10: the range begins below the image's end and ends at or above its start. */
	leaq	OFF(pgtable_extra_bsp_end)(%rsi), %r8
	cmpq	%r8, %rdi
	setb	%ch
	cmpq	%rsi, %rax
	setae	%dl
	andb	%dl, %ch
	orb	%ch, %cl
	jnz	refuse
	ret

/* Say why in the status word, unless the host has given up. EBX = the refusal. */
refuse:
	movl	$STATUS_STARTED, %eax
	lock cmpxchgl	%ebx, OFF(trampoline_status_bsp)(%rsi)
given_up:
	hlt					/* interrupts are off: for good */
	jmp	given_up

/*
 * Map the GiB around RAX to itself, below the tables that are there already or else below the
 * two fresh ones at RDX. RDX moves on to the next two. Clobbers RAX, RBX, RCX, RDI.
 *
 * Without branches, so that all addresses take one path. No translation is invalidated: an entry
 * changes from not present to present, which needs none (SDM vol. 3A 4.10.4.3), or is written
 * with the address and rights that it had.
 */
map_gib:
	/* MKRFC-1: the PML4 entry of the address, not always the first. */
	movq	%rax, %rcx
	shrq	$PDPT_SHIFT, %rcx		/* below 256: last_byte let no higher address pass */
	leaq	TABLE(0)(%rsi, %rcx, ENTRY_SIZE), %rdi
	leaq	TABLE_FLAGS(%rdx), %rcx
	movq	(%rdi), %rbx
	testb	$PTE_P, %bl
	cmovzq	%rcx, %rbx
	movq	%rbx, (%rdi)
	andq	$TABLE_ADDRESS_MASK, %rbx	/* RBX = PDPT; the CPU may have set the accessed bit */

	movq	%rax, %rcx
	shrq	$PD_SHIFT, %rcx
	andl	$INDEX_MASK, %ecx
	leaq	(%rbx, %rcx, ENTRY_SIZE), %rdi
	leaq	(PAGE_SIZE + TABLE_FLAGS)(%rdx), %rcx
	movq	(%rdi), %rbx
	testb	$PTE_P, %bl
	cmovzq	%rcx, %rbx
	movq	%rbx, (%rdi)
	andq	$TABLE_ADDRESS_MASK, %rbx	/* RBX = page directory */

	addq	$(2 * PAGE_SIZE), %rdx

	shrq	$PD_SHIFT, %rax
	shlq	$PD_SHIFT, %rax
	addq	$LARGE_PAGE_FLAGS, %rax
	movl	$ENTRIES_PER_TABLE, %ecx
1:	movq	%rax, (%rbx)
	addq	$LARGE_PAGE_SIZE, %rax
	addq	$ENTRY_SIZE, %rbx
	decl	%ecx
	jnz	1b
	ret

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
	.short	tgdt_bsp_end - tgdt_bsp - 1	/* MKRFC-7: the last valid offset */
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
	.short	gdt_bsp_64_end - gdt_bsp_64 - 1	/* MKRFC-7 */
	.long	0
	.short	0
	.quad	0
	/* MKRFC-9: marked as accessed, so that the CPU need not write here. */
	.quad	DESC_CODE64
	.quad	DESC_DATA
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
	.skip	EXTRA_TABLES * PAGE_SIZE
pgtable_extra_bsp_end:

	.section .note.GNU-stack, "", @progbits
