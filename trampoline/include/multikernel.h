/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the host, the multikernel trampolines and the kernels they start agree on.
 */
#ifndef TRAMPOLINE_MULTIKERNEL_H
#define TRAMPOLINE_MULTIKERNEL_H

/*
 * Values of trampoline_status_bsp. Those with 0xE at the top end the attempt. The RFC has FREE and
 * STARTED only; what the others are for is in PROTOCOL.md.
 */
#define STATUS_FREE			0x00000000	/* the area is nobody's */
#define STATUS_HELD			0x0EEEEEEE	/* the host rewrites the mailbox */
#define STATUS_OFFERED			0x10000000	/* + APIC id: this CPU may start */
#define STATUS_STARTED			0xA5A5A5A5	/* the target CPU runs */
#define STATUS_RUNNING			0xB0000001	/* it jumps to the kernel */
#define STATUS_GIVEN_UP			0xD0000001	/* it must not jump any more */
#define STATUS_REFUSED_KERNEL		0xE0000001	/* the kernel cannot be mapped, or meets the image */
#define STATUS_REFUSED_BOOT_PARAMS	0xE0000002	/* the same for boot_params */
#define STATUS_REFUSED_CPU		0xE0000003	/* the CPU has no long mode */

/* Bytes that the kernel finds mapped from its address on; init_size must not exceed them. */
#define KERNEL_SIZE_MAX			0x40000000
/* struct boot_params, the "zero page": Linux Documentation/arch/x86/boot.rst. */
#define BOOT_PARAMS_SIZE		0x1000

/* Selectors. 0x10 and 0x18 are the boot protocol's __BOOT_CS and __BOOT_DS. */
#define CODE32				0x08
#define CODE64				0x10
#define DATA				0x18

#endif
