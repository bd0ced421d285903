// SPDX-License-Identifier: GPL-2.0-only
/*
 * Physical memory, sparse: the first MiB in one piece, and any other page by itself between two
 * pages that cannot be touched, so that a write beyond its end is a crash.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "native.h"

#define PAGES_MAX 4096

struct page {
	u64 address;
	u8 *now;
	u8 *before;
};

static struct page pages[PAGES_MAX];	/* by rising address */
static int count;
static u8 *low, *low_before;

static u8 *fresh(u64 size)
{
	u8 *place = mmap(NULL, size + 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (place == MAP_FAILED || mprotect(place + PAGE_SIZE, size, PROT_READ | PROT_WRITE))
		give_up("there is not enough memory for the pages that the host writes");
	return memset(place + PAGE_SIZE, UNTOUCHED, size);
}

void make_memory(void)
{
	low = fresh(LOW_MEMORY);
	low_before = fresh(LOW_MEMORY);
}

u8 *physical(u64 address)
{
	u64 start = address - address % PAGE_SIZE;
	int place = 0;

	if (address < LOW_MEMORY)
		return low + address;
	while (place < count && pages[place].address < start)
		place++;
	if (place == count || pages[place].address != start) {
		if (count == PAGES_MAX)
			give_up("the host writes more pages than can be remembered");
		memmove(&pages[place + 1], &pages[place], (count++ - place) * sizeof(pages[0]));
		pages[place] = (struct page){ start, fresh(PAGE_SIZE), fresh(PAGE_SIZE) };
	}
	return pages[place].now + address % PAGE_SIZE;
}

void forget_changes(void)
{
	memcpy(low_before, low, LOW_MEMORY);
	for (int i = 0; i < count; i++)
		memcpy(pages[i].before, pages[i].now, PAGE_SIZE);
}

/* The open range is extended by the bytes that differ, or printed. */
static struct range open_range;
static bool some;

static void print_open(void)
{
	if (open_range.size)
		printf("%s[%lu,%lu]", some ? "," : "", open_range.start,
		       open_range.start + open_range.size);
	some |= open_range.size != 0;
}

static void compare(u64 address, const u8 *now, const u8 *before, u64 size)
{
	for (u64 i = 0; i < size; i++) {
		if (now[i] == before[i])
			continue;
		if (open_range.start + open_range.size != address + i) {
			print_open();
			open_range = (struct range){ address + i, 0 };
		}
		open_range.size++;
	}
}

void print_changes(void)
{
	some = false;
	open_range = (struct range){ 0, 0 };
	printf("[");
	compare(0, low, low_before, LOW_MEMORY);
	for (int i = 0; i < count; i++)
		compare(pages[i].address, pages[i].now, pages[i].before, PAGE_SIZE);
	print_open();
	printf("]");
}
