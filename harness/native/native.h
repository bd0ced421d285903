/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A host's compiled object, run as a program of this CPU: what its parts share. Nothing here is
 * privileged; physical memory, the user's memory and other CPUs are played.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include "host.h"

#define LOW_MEMORY	LOW_MEMORY_LIMIT	/* in one piece, as the host has it mapped */
#define UNTOUCHED	0xCC			/* each byte of physical memory before the run */
#define USER_BYTE	0x5A			/* each byte of the user's memory */
#define TRAMPOLINE_BYTE	0xAB			/* each byte of the trampoline's image */

extern struct host host;

/* memory.c: pages of physical memory, made when they are first asked for. */
void make_memory(void);
u8 *physical(u64 address);
/* From here on, changes count anew; then print them as a list of [first, end). */
void forget_changes(void);
void print_changes(void);

/* platform.c: what the machine and the kernel around the host answer. */
struct range {
	u64 start;
	u64 size;
};

#define RANGES_MAX 32

struct answers {
	bool online, present;
	u32 apic_id;
	bool starts;			/* the target CPU, at a SIPI that is sent */
	u64 low;			/* what allocate_low finds */
	struct range reserved[RANGES_MAX], used[RANGES_MAX];
	int reserved_count, used_count;
};

extern struct answers answers;

/* The call of this number (from 1) to the platform's function `name` will give `result`. */
void let_fail(const char *name, unsigned number, u64 result);
/* The words that host and target CPU share, as members of a JSON object. */
void print_words(void);
/* One clear sentence, and the end. */
void give_up(const char *sentence) __attribute__((noreturn));

#endif
