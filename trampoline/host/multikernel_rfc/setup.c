// SPDX-License-Identifier: GPL-2.0-only
/*
 * The trampoline area, set up as the RFC does when the host boots.
 */
#include "cpu.h"
#include "host.h"
#include "platform.h"

void multikernel_setup(struct host *host, const struct trampoline *trampoline)
{
	struct area *area = &host->area;
	u64 size = (trampoline->size + PAGE_SIZE - 1) & -(u64)PAGE_SIZE;

	area->base = allocate_low(size, LOW_MEMORY_LIMIT);
	if (!area->base)
		panic();
	area->size = size;
	area->memory = mapped(area->base);
	area->trampoline = trampoline;

	/* As posted: the end where a size is meant. */
	reserve(area->base, area->base + size);

	copy_bytes(area->memory, trampoline->image, trampoline->size);
	make_executable(area->memory, size >> PAGE_SHIFT);
}
