/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The lock of a host: taken at once or not at all.
 */
#ifndef HOST_LOCK_H
#define HOST_LOCK_H

#include "cpu.h"
#include "host.h"

static inline bool try_lock(struct host *host)
{
	return compare_exchange(&host->lock, 0, 1);
}

/* Stores are seen in order: whoever finds the lock free sees what was done under it. */
static inline void unlock(struct host *host)
{
	asm volatile("" ::: "memory");
	host->lock = 0;
}

#endif
