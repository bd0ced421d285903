/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Integer types and error results of the host's code. It uses no library.
 */
#ifndef HOST_TYPES_H
#define HOST_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

/* Returned negated, with the values of Linux. */
#define ENOMEM			12	/* no memory, or a page that cannot be mapped */
#define EFAULT			14	/* the user's buffer cannot be read */
#define EBUSY			16	/* in use: try again, or never */
#define EINVAL			22	/* what was asked for makes no sense */
#define EADDRNOTAVAIL		99	/* no image may lie there */

#endif
