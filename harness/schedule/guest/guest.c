// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel around the host's object, as far as it needs one: a loop that kicks and waits, and the
 * platform. What happens is Python's choice: it writes the words below while CPU 0 stands, and
 * delivers INIT and SIPI itself.
 */
#include "host.h"
#include "platform.h"

#define STAGED_PAGES 8

void start_of_attempt(void);
void end_of_attempt(void);
void next_attempt(void);
int multikernel_release(struct host *host, int cpu) __attribute__((weak));

/* Written by Python before the start. */
u64 area_base;			/* what allocate_low gives */
u64 kernels;			/* where the kernels of all attempts lie, one page each */
u8 staged[STAGED_PAGES * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
struct trampoline trampoline;	/* bytes: staged_image */
u8 staged_image[0x10000] __attribute__((aligned(PAGE_SIZE)));
volatile u32 leaves, leave_from, leave_to; /* how a kernel leaves the area: for payload.S */
volatile u64 leave_word;

/* Written by Python for each attempt: the CPU, and what the platform answers. */
volatile u32 target;
volatile u32 release;		/* first take it that the CPU was stopped */
volatile u32 is_online, is_absent, init_fails;
volatile u32 sipi_fails;	/* which SIPI of the attempt cannot be sent; 0: none */
volatile u32 time_is_over;

/* Read by Python. */
struct host host;
struct image image;
volatile int setup_result;
volatile int kick_result;
volatile int verdict;
volatile u32 asked_apic_id, asked_vector;
static u32 sipis;

void drive(void)
{
	image.type = TYPE_MULTIKERNEL;
	image.nr_segments = 1;
	image.entry = kernels;
	image.segment[0] = (struct segment){ staged, sizeof(staged), kernels, sizeof(staged) };
	trampoline.image = staged_image;

	multikernel_setup(&host, &trampoline);
	setup_result = multikernel_load(&host, &image);
	for (;;) {
		start_of_attempt();
		sipis = 0;
		if (release && multikernel_release)
			multikernel_release(&host, target);
		kick_result = multikernel_kick(&host, target);
		verdict = kick_result ? 0 : multikernel_wait(&host);
		end_of_attempt();
		next_attempt();
	}
}

bool cpu_online(int cpu)
{
	(void)cpu;
	return is_online;
}

u32 cpu_apic_id(int cpu)
{
	return cpu;
}

bool apic_id_present(u32 apic_id)
{
	(void)apic_id;
	return !is_absent;
}

int send_init(u32 apic_id)
{
	asked_apic_id = apic_id;
	return init_fails ? -EINVAL : 0;
}

int send_sipi(u32 apic_id, u8 vector)
{
	asked_apic_id = apic_id;
	asked_vector = vector;
	return ++sipis == sipi_fails ? -EINVAL : 0;
}

bool relax(void)
{
	return time_is_over;
}

void warm_reset_set(u64 start)
{
	(void)start;
}

void warm_reset_undo(void)
{
}

u64 allocate_low(u64 size, u64 limit)
{
	return area_base + size <= limit ? area_base : 0;
}

void reserve(u64 start, u64 size)
{
	(void)start;
	(void)size;
}

void make_executable(void *start, u64 pages)
{
	(void)start;
	(void)pages;
}

void panic(void)
{
	for (;;)
		asm volatile("hlt");
}

void *mapped(u64 start)
{
	return (void *)start;
}

void *map_page(u64 page)
{
	return (void *)page;
}

void unmap_page(void *page)
{
	(void)page;
}

u64 copy_from_user(void *to, const void *from, u64 size)
{
	asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (size) : : "memory");
	return size;
}

bool reserved_for_kernels(u64 start, u64 size)
{
	return lies_in(start, kernels, sizeof(staged)) && size <= kernels + sizeof(staged) - start;
}

bool used_by_host(u64 start, u64 size)
{
	return !reserved_for_kernels(start, size);
}
