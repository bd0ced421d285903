/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions that C has no words for. DF is clear, as the ABI demands.
 */
#ifndef HOST_CPU_H
#define HOST_CPU_H

#include "types.h"

/* All stores before this one are visible to every CPU before anything behind it happens. */
static inline void memory_barrier(void)
{
	asm volatile("mfence" ::: "memory");
}

/* Writes `value` and returns what was there; locked, with or without the prefix. */
static inline u32 exchange(volatile u32 *word, u32 value)
{
	asm volatile("xchgl %0, %1" : "+r" (value), "+m" (*word) : : "memory");
	return value;
}

/* Writes `value` if the word is `expected`; says whether it did. */
static inline bool compare_exchange(volatile u32 *word, u32 expected, u32 value)
{
	bool done;

	asm volatile("lock cmpxchgl %3, %1"
		     : "=@ccz" (done), "+m" (*word), "+a" (expected)
		     : "r" (value)
		     : "memory");
	return done;
}

static inline void copy_bytes(void *to, const void *from, u64 size)
{
	asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (size) : : "memory");
}

static inline void zero_bytes(void *to, u64 size)
{
	asm volatile("rep stosb" : "+D" (to), "+c" (size) : "a" (0) : "memory");
}

#endif
