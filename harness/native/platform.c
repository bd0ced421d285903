// SPDX-License-Identifier: GPL-2.0-only
/*
 * The platform (trampoline/host/include/platform.h), which records each call as a line of JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "multikernel.h"
#include "native.h"
#include "platform.h"

#define PLANS_MAX	16
#define PATIENCE	3	/* calls of relax until there was time enough */

struct answers answers;

static struct plan {
	char name[24];
	unsigned number;
	u64 result;
} plans[PLANS_MAX];
static int plan_count;

static struct {
	const char *name;
	unsigned count;
} calls[32];

void let_fail(const char *name, unsigned number, u64 result)
{
	struct plan *plan = &plans[plan_count++];

	if (plan_count > PLANS_MAX)
		give_up("the input lets too many calls fail");
	snprintf(plan->name, sizeof(plan->name), "%s", name);
	plan->number = number;
	plan->result = result;
}

/* What this call gives: `usual`, unless it is to fail. */
static u64 outcome(const char *name, u64 usual)
{
	int i = 0;

	while (calls[i].name && strcmp(calls[i].name, name))
		i++;
	calls[i].name = name;
	calls[i].count++;
	for (int j = 0; j < plan_count; j++)
		if (!strcmp(plans[j].name, name) && plans[j].number == calls[i].count)
			return plans[j].result;
	return usual;
}

void print_words(void)
{
	const struct area *area = &host.area;

	if (area->memory && area->trampoline)
		printf(",\"status\":%u,\"kernel\":%lu,\"boot_params\":%lu", *status_word(area),
		       *kernel_word(area), *boot_params_word(area));
}

static void record(const char *name, int count, u64 first, u64 second)
{
	u64 arguments[] = { first, second };

	printf("{\"call\":\"%s\",\"arguments\":[", name);
	for (int i = 0; i < count; i++)
		printf("%s%lu", i ? "," : "", arguments[i]);
	printf("]");
	print_words();
	printf("}\n");
}

/* CPUs. */

bool cpu_online(int cpu)
{
	record("cpu_online", 1, cpu, 0);
	return answers.online;
}

u32 cpu_apic_id(int cpu)
{
	record("cpu_apic_id", 1, cpu, 0);
	return answers.apic_id;
}

bool apic_id_present(u32 apic_id)
{
	record("apic_id_present", 1, apic_id, 0);
	return answers.present;
}

int send_init(u32 apic_id)
{
	record("send_init", 1, apic_id, 0);
	return outcome("send_init", 0);
}

/*
 * The target CPU runs: after an offer to it up to its jump, as PROTOCOL.md says; else it does as the
 * RFC's does. A second SIPI finds it running.
 */
static void start(u32 apic_id, volatile u32 *status)
{
	if (*status == STATUS_OFFERED + apic_id)
		*status = STATUS_RUNNING;
	else if (*status != STATUS_RUNNING)
		*status = STATUS_STARTED;
}

int send_sipi(u32 apic_id, u8 vector)
{
	int error = outcome("send_sipi", 0);

	record("send_sipi", 2, apic_id, vector);
	if (!error && answers.starts)
		start(apic_id, status_word(&host.area));
	return error;
}

void warm_reset_set(u64 start)
{
	record("warm_reset_set", 1, start, 0);
}

void warm_reset_undo(void)
{
	record("warm_reset_undo", 0, 0, 0);
}

bool relax(void)
{
	static int count;

	return ++count % PATIENCE == 0;
}

/* The kernel around it. */

u64 allocate_low(u64 size, u64 limit)
{
	record("allocate_low", 2, size, limit);
	return answers.low;
}

void reserve(u64 start, u64 size)
{
	record("reserve", 2, start, size);
}

void make_executable(void *start, u64 count)
{
	record("make_executable", 2, (u8 *)start - physical(0), count);
}

void panic(void)
{
	record("panic", 0, 0, 0);
	exit(0);
}

void *mapped(u64 start)
{
	record("mapped", 1, start, 0);
	return physical(start);
}

void *map_page(u64 page)
{
	record("map_page", 1, page, 0);
	if (page % PAGE_SIZE)
		give_up("map_page was called with an address within a page");
	return outcome("map_page", 1) ? physical(page) : NULL;
}

void unmap_page(void *page)
{
	record("unmap_page", 0, 0, 0);
	(void)page;
}

u64 copy_from_user(void *to, const void *from, u64 size)
{
	u64 missing = outcome("copy_from_user", 0);

	record("copy_from_user", 2, (u64)from, size);
	missing = missing < size ? missing : size;
	memset(to, USER_BYTE, size - missing);
	return missing;
}

bool reserved_for_kernels(u64 start, u64 size)
{
	record("reserved_for_kernels", 2, start, size);
	for (int i = 0; i < answers.reserved_count; i++) {
		const struct range *one = &answers.reserved[i];

		if (start - one->start <= one->size && size <= one->size - (start - one->start))
			return true;
	}
	return false;
}

bool used_by_host(u64 start, u64 size)
{
	record("used_by_host", 2, start, size);
	for (int i = 0; i < answers.used_count; i++)
		if (meet(start, size, answers.used[i].start, answers.used[i].size))
			return true;
	return false;
}
