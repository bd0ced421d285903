/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Constants of the x86 architecture that bring-up code needs, by the manual's names.
 * "SDM" is the Intel 64 and IA-32 Architectures Software Developer's Manual.
 * Preprocessor only, so that assembly of every mode can include it.
 */
#ifndef TRAMPOLINE_X86_H
#define TRAMPOLINE_X86_H

/* Control registers: SDM vol. 3A 2.5. */
#define CR0_PE			0x00000001	/* protected mode */
#define CR0_NE			0x00000020	/* x87 errors raise #MF and no external interrupt */
#define CR0_WP			0x00010000	/* read-only pages are so at CPL 0, too */
#define CR0_PG			0x80000000	/* paging */
#define CR4_PAE			0x00000020	/* 8-byte table entries; long mode needs them */
#define CR4_LA57		0x00001000	/* 5-level paging; fixed while long mode is on */

/* Extended feature enable register: SDM vol. 3A 2.2.1. */
#define MSR_EFER		0xC0000080
#define EFER_LME_BIT		8		/* long mode takes effect with CR0.PG */

/* Address widths: SDM vol. 2A, CPUID; MAXPHYADDR is in AL. */
#define CPUID_BASIC		0		/* EAX: the highest basic leaf */
#define CPUID_BASIC_FEATURES	1
#define CPUID_APIC_ID_SHIFT	24		/* in EBX: the initial APIC id, bits 31:24 */
#define CPUID_PAE_BIT		6		/* in EDX: CR4.PAE can be set */
#define CPUID_MORE_FEATURES	7		/* subleaf in ECX */
#define CPUID_LA57_BIT		16		/* in ECX: CR4.LA57 can be set */
#define CPUID_EXTENDED		0x80000000	/* EAX: the highest extended leaf */
#define CPUID_FEATURES		0x80000001
#define CPUID_LM_BIT		29		/* in EDX: long mode */
#define CPUID_ADDRESS_SIZES	0x80000008
/*
 * With 4-level paging a linear address has 48 bits and is sign-extended from bit 47
 * (SDM vol. 1 3.3.7.1): an identity map ends where bit 47 would be set.
 */
#define IDENTITY_BITS		47

/* Table entries: SDM vol. 3A 4.5.4, tables 4-15 to 4-20. */
#define PTE_P			0x001		/* present */
#define PTE_RW			0x002		/* writable */
#define PTE_US			0x004		/* user; means nothing to code at CPL 0 without SMEP */
#define PTE_PS			0x080		/* the entry maps a page and names no table */
#define PTE_G			0x100		/* global; ignored while CR4.PGE = 0 */
#define TABLE_FLAGS		(PTE_P | PTE_RW | PTE_US)		/* 0x007 */
#define LARGE_PAGE_FLAGS	(PTE_P | PTE_RW | PTE_PS | PTE_G)	/* 0x183 */

#define PAGE_SIZE		0x1000
#define ENTRY_SIZE		8
#define ENTRIES_PER_TABLE	512
#define INDEX_MASK		(ENTRIES_PER_TABLE - 1)
#define LARGE_PAGE_SIZE		0x200000	/* mapped by one entry of a page directory */
#define PD_SHIFT		30		/* a page directory maps 1 GiB: bits 29:0 */
#define PDPT_SHIFT		39		/* a PDPT maps 512 GiB: bits 38:0 */
#define TABLE_ADDRESS_MASK	(-PAGE_SIZE)
#define CR3_ADDRESS_MASK	0x000ffffffffff000	/* bits 51:12: the top-level table */

/* Segment descriptors: SDM vol. 3A 3.4.5. All have base 0, 4 GiB limit, DPL 0. */
#define DESC_CODE32		0x00cf9b000000ffff	/* D = 1, accessed */
#define DESC_CODE64		0x00af9b000000ffff	/* L = 1, accessed */
#define DESC_DATA		0x00cf93000000ffff	/* writable, accessed */
#define DESC_CODE64_FRESH	0x00af9a000000ffff	/* L = 1, not yet accessed */
#define DESC_DATA_FRESH		0x00cf92000000ffff	/* writable, not yet accessed */
/* Available 64-bit TSS; 16 bytes, SDM vol. 3A 7.2.3. */
#define DESC_TSS_LOW		0x0080890000000000
#define DESC_TSS_HIGH		0

#endif
