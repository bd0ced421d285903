/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host's side: set up the trampoline area, load an image, kick a CPU, wait for it.
 *
 * Two variants have this interface: `multikernel_rfc` behaves as the RFC's patches 1/7 and 2/7 of
 * 18 Sep 2025 do, `multikernel` is its hardened counterpart. Both are written anew.
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include "types.h"

#define PAGE_SIZE		0x1000
#define PAGE_SHIFT		12
#define LOW_MEMORY_LIMIT	0x100000	/* real mode reaches no further */

/* Kinds of images. */
#define TYPE_DEFAULT		0
#define TYPE_CRASH		1
#define TYPE_MULTIKERNEL	2

#define SEGMENTS_MAX		16
#define APIC_IDS		255		/* a CPU is named by eight bits; 255 means all */

/* What `multikernel_wait` returns. */
#define VERDICT_RUNNING		1	/* it jumped to the kernel */
#define VERDICT_STARTED		2	/* it reported in */
#define VERDICT_REFUSED		3	/* it cannot start this kernel */
#define VERDICT_STUCK		4	/* it started, got no further, and will not */
#define VERDICT_NOT_RESPONDING	5	/* it never started, and will not */

/* A trampoline: bytes, and offsets of the words that the host shares with the target CPU. */
struct trampoline {
	const void *image;
	u64 size;
	u32 status;
	u32 kernel;
	u32 boot_params;
};

/* The place that a trampoline was copied to. `memory`: `base` as the host sees it. */
struct area {
	u64 base;
	u64 size;
	u8 *memory;
	const struct trampoline *trampoline;
};

/* `bufsz` bytes of the user's memory, then zeros, for physical [mem, mem + memsz). */
struct segment {
	const u8 *buf;
	u64 bufsz;
	u64 mem;
	u64 memsz;
};

struct image {
	u32 type;
	u32 nr_segments;
	u64 entry;			/* physical */
	struct segment segment[SEGMENTS_MAX];
};

/*
 * One area and what the host knows of it. All zero before `multikernel_setup`, but for
 * `boot_params`: the physical address of the host's own.
 */
struct host {
	volatile u32 lock;
	const struct image *image;	/* the one to start; NULL: none */
	u64 boot_params;
	struct area area;
	/* The hardened host's own, under the lock: */
	u32 offer;			/* the status word that offers the area to the last target */
	u32 owner;			/* the offer to the CPU that is in the area, unless it is free */
	bool again;			/* the last target may be in the area from an earlier attempt */
	u8 taken[APIC_IDS];		/* by APIC id: it runs another kernel */
};

/* Copy the trampoline to low memory. */
void multikernel_setup(struct host *host, const struct trampoline *trampoline);
/* Put the image's segments into their places, for kicks to come: 0 or a negative error. */
int multikernel_load(struct host *host, const struct image *image);
/* Send `cpu` through the trampoline into the image: 0 or a negative error. */
int multikernel_kick(struct host *host, int cpu);
/* After a kick that returned 0: what became of it, one of VERDICT_*. */
int multikernel_wait(struct host *host);

/* What is left to do of a segment. */
struct progress {
	const u8 *from;
	u64 from_left;
	u64 to;
	u64 to_left;
};

/* Put one segment into its place (segment.c). */
int load_segment(const struct segment *segment);
int load_piece(struct progress *progress);
/* The checks that the segments of any image must pass, one by one and in pairs (segment.c). */
int check_segments(const struct image *image);
int check_nth(const struct image *image, u32 number);
int check_segment(const struct segment *one);
int check_apart(const struct segment *one, const struct segment *other);

static inline bool lies_in(u64 address, u64 start, u64 size)
{
	return address - start < size;
}

/* Have two ranges a byte in common? Neither wraps around. */
static inline bool meet(u64 start, u64 size, u64 other, u64 other_size)
{
	return size && other_size && (lies_in(start, other, other_size) ||
				      lies_in(other, start, size));
}

static inline volatile u32 *status_word(const struct area *area)
{
	return (volatile u32 *)(area->memory + area->trampoline->status);
}

static inline volatile u64 *kernel_word(const struct area *area)
{
	return (volatile u64 *)(area->memory + area->trampoline->kernel);
}

static inline volatile u64 *boot_params_word(const struct area *area)
{
	return (volatile u64 *)(area->memory + area->trampoline->boot_params);
}

#endif
