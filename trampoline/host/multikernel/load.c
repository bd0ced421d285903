// SPDX-License-Identifier: GPL-2.0-only
/*
 * Load with the checks that keep an image away from the host, from the trampoline area, and from
 * memory that is not reserved for other kernels.
 */
#include "host.h"
#include "lock.h"
#include "platform.h"

int check_place(const struct host *host, const struct segment *one);
int check_entry(const struct image *image);
bool begins_in(const struct image *image, const struct segment *one);

/* After check_segment, so it does not wrap around. */
__attribute__((noinline)) int check_place(const struct host *host, const struct segment *one)
{
	if (!reserved_for_kernels(one->mem, one->memsz))
		return -EADDRNOTAVAIL;
	if (used_by_host(one->mem, one->memsz))
		return -EADDRNOTAVAIL;
	if (meet(one->mem, one->memsz, host->area.base, host->area.size))
		return -EADDRNOTAVAIL;
	return 0;
}

__attribute__((noinline)) bool begins_in(const struct image *image, const struct segment *one)
{
	return lies_in(image->entry, one->mem, one->memsz);
}

__attribute__((noinline)) int check_entry(const struct image *image)
{
	for (u32 i = 0; i < image->nr_segments; i++)
		if (begins_in(image, &image->segment[i]))
			return 0;
	return -EADDRNOTAVAIL;
}

int multikernel_load(struct host *host, const struct image *image)
{
	int error;

	if (!try_lock(host))
		return -EBUSY;
	error = -EINVAL;
	if (image->type == TYPE_MULTIKERNEL)
		error = check_segments(image);
	for (u32 i = 0; !error && i < image->nr_segments; i++)
		error = check_place(host, &image->segment[i]);
	if (!error)
		error = check_entry(image);
	if (!error) {
		/* Its memory may be written from here on. */
		host->image = NULL;
		for (u32 i = 0; !error && i < image->nr_segments; i++)
			error = load_segment(&image->segment[i]);
		if (!error)
			host->image = image;
	}
	unlock(host);
	return error;
}
