/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the host, the multikernel trampolines and the kernels they start agree on.
 */
#ifndef TRAMPOLINE_MULTIKERNEL_H
#define TRAMPOLINE_MULTIKERNEL_H

/* Values of trampoline_status_bsp. Those with 0xE at the top end the attempt. */
#define STATUS_STARTED			0xA5A5A5A5	/* the target CPU runs */
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
