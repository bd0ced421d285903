/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the start64 trampolines and the kernel that they start agree on.
 */
#ifndef TRAMPOLINE_START64_H
#define TRAMPOLINE_START64_H

/* In bytes. */
#define STACK_SIZE			512

/* Selectors, as in the kernel's own GDT. */
#define CODE32				0x08
#define CODE64				0x10
#define DATA				0x18

/* Bit of tr_lock that is set while a CPU uses the image. */
#define LOCK_BIT			0

#endif
