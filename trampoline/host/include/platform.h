/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the host's code needs of the machine that it runs on, and of the kernel around it. None of
 * these touches the trampoline area, but through a pointer that it is given.
 */
#ifndef HOST_PLATFORM_H
#define HOST_PLATFORM_H

#include "types.h"

#define INVALID_APIC_ID		0xFFFFFFFF

/* Does `cpu` run this kernel? */
bool cpu_online(int cpu);
/* The initial APIC id of `cpu`, or INVALID_APIC_ID. */
u32 cpu_apic_id(int cpu);
/* Does the machine have a CPU with this APIC id? */
bool apic_id_present(u32 apic_id);

/* Send INIT, or SIPI with `vector`, to one CPU and wait until it is sent: 0, or a negative error. */
int send_init(u32 apic_id);
int send_sipi(u32 apic_id, u8 vector);

/*
 * Where a CPU starts that takes INIT for a reset: at the physical address `start`, as it does
 * after a SIPI; or as it was before. No effect on machines that have no need of it.
 */
void warm_reset_set(u64 start);
void warm_reset_undo(void);

/* Let some time pass. True when there was enough of it since the last kick. */
bool relax(void);

/* `size` free bytes, page aligned, below `limit`: their physical address; 0 if there are none. */
u64 allocate_low(u64 size, u64 limit);
/* Nobody else is given the `size` bytes from `start` on, from now on. */
void reserve(u64 start, u64 size);
/* The pages from `start` on may hold code. */
void make_executable(void *start, u64 pages);
/* This kernel cannot go on. */
void panic(void) __attribute__((noreturn));

/* Physical memory from `start` on that the host's kernel has mapped for good. */
void *mapped(u64 start);
/* One page of physical memory, mapped until it is unmapped; NULL if that is impossible. */
void *map_page(u64 page);
void unmap_page(void *page);
/* Returns how many of `size` bytes of the user's memory could not be copied; the others were. */
u64 copy_from_user(void *to, const void *from, u64 size);

/* Do all of the `size` bytes from `start` on lie in a region that is reserved for other kernels? */
bool reserved_for_kernels(u64 start, u64 size);
/* Does one of the `size` bytes from `start` on belong to the host's own kernel? */
bool used_by_host(u64 start, u64 size);

#endif
