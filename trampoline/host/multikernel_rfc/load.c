// SPDX-License-Identifier: GPL-2.0-only
/*
 * Load as the RFC does: the checks of any image, and no others. Those that a segment and the entry
 * lie in memory that is reserved for other kernels are compiled out in the posted text.
 */
#include "host.h"
#include "lock.h"

int multikernel_load(struct host *host, const struct image *image)
{
	int error;

	if (!try_lock(host))
		return -EBUSY;
	error = check_segments(image);
	for (u32 i = 0; !error && i < image->nr_segments; i++)
		error = load_segment(&image->segment[i]);
	if (!error)
		host->image = image;
	unlock(host);
	return error;
}
