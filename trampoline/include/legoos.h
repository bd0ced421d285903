/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the LegoOS trampolines and the kernel that they start agree on.
 */
#ifndef TRAMPOLINE_LEGOOS_H
#define TRAMPOLINE_LEGOOS_H

/* Where an AP enters the kernel: at a constant offset behind the kernel's physical start. */
#define LEGOOS_KERNEL			0x1000000
#define LEGOOS_ENTRY			(LEGOOS_KERNEL + 0x1000)

/* In bytes. */
#define STACK_SIZE			128

/* Selectors. */
#define CODE32				0x08
#define CODE64				0x10
#define DATA				0x18

/* Bit of tr_lock that is set while a CPU uses the image. */
#define LOCK_BIT			0

#endif
