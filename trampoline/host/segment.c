// SPDX-License-Identifier: GPL-2.0-only
/*
 * Segments, as any image has them: the checks of their list, and the way of their bytes into
 * physical memory. Both variants share this.
 */
#include "cpu.h"
#include "host.h"
#include "platform.h"

static u64 least(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* Whole pages that do not wrap around and have room for the buffer. */
__attribute__((noinline)) int check_segment(const struct segment *one)
{
	if (one->mem + one->memsz < one->mem)
		return -EADDRNOTAVAIL;
	if ((one->mem | one->memsz) % PAGE_SIZE)
		return -EADDRNOTAVAIL;
	if (one->bufsz > one->memsz)
		return -EINVAL;
	return 0;
}

/* Neither wraps around. */
__attribute__((noinline)) int check_apart(const struct segment *one, const struct segment *other)
{
	return meet(one->mem, one->memsz, other->mem, other->memsz) ? -EINVAL : 0;
}

/* One segment by itself, and beside those before it. */
__attribute__((noinline)) int check_nth(const struct image *image, u32 number)
{
	const struct segment *one = &image->segment[number];
	int error = check_segment(one);

	for (u32 i = 0; !error && i < number; i++)
		error = check_apart(one, &image->segment[i]);
	return error;
}

int check_segments(const struct image *image)
{
	int error = 0;

	if (image->nr_segments > SEGMENTS_MAX)
		return -EINVAL;
	for (u32 i = 0; !error && i < image->nr_segments; i++)
		error = check_nth(image, i);
	return error;
}

/* What lies in one page. A function of its own, so that the loop's state is all in `progress`. */
__attribute__((noinline)) int load_piece(struct progress *progress)
{
	u64 offset = progress->to % PAGE_SIZE;
	u64 piece = least(progress->to_left, PAGE_SIZE - offset);
	u64 copied = least(progress->from_left, piece);
	u8 *page = map_page(progress->to - offset);
	u64 missing;

	if (!page)
		return -ENOMEM;
	missing = copy_from_user(page + offset, progress->from, copied);
	if (!missing)
		zero_bytes(page + offset + copied, piece - copied);
	unmap_page(page);
	if (missing)
		return -EFAULT;

	progress->from += copied;
	progress->from_left -= copied;
	progress->to += piece;
	progress->to_left -= piece;
	return 0;
}

__attribute__((noinline)) int load_segment(const struct segment *segment)
{
	struct progress progress = {
		.from = segment->buf,
		.from_left = segment->bufsz,
		.to = segment->mem,
		.to_left = segment->memsz,
	};

	while (progress.to_left) {
		int error = load_piece(&progress);

		if (error)
			return error;
	}
	return 0;
}
