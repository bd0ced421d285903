// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads what there is and what is done, one line each, and calls the host's functions:
 *
 *	trampoline SIZE STATUS KERNEL BOOT_PARAMS	offsets of the words
 *	allocate BASE			what is free below 1 MiB
 *	area BASE SIZE			an area as a sound set-up leaves it
 *	image TYPE ENTRY		then its segments:
 *	segment BUF BUFSZ MEM MEMSZ
 *	loaded				the image so far was loaded before; another one begins
 *	boot_params ADDRESS
 *	cpu ONLINE APIC_ID PRESENT
 *	starts				the target CPU does, at a SIPI that is sent
 *	reserved START SIZE		for other kernels
 *	used START SIZE			by the host's kernel
 *	fail NAME NUMBER RESULT		of a call of the platform
 *	held				somebody has the lock
 *	setup | load | kick CPU | wait		wait: only if the kick before returned 0
 *
 * Numbers as in C. Each function that is called and each call of the platform is a line of JSON.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "native.h"

struct host host;

static struct image images[2];
static struct image *image = &images[0];
static struct trampoline trampoline;
static int kicked = -1;		/* the result of the last kick */

void give_up(const char *sentence)
{
	printf("{\"problem\":\"%s\"}\n", sentence);
	exit(1);
}

static const char *name_of(const struct image *one)
{
	return one == &images[1] ? "old" : one == &images[0] ? "new" : "none";
}

static void done(const char *name, long result)
{
	printf("{\"did\":\"%s\",\"result\":%ld,\"image\":\"%s\",\"lock\":%u", name, result,
	       name_of(host.image), host.lock);
	print_words();
	printf(",\"changed\":");
	print_changes();
	printf("}\n");
	forget_changes();
}

static void set_trampoline(const u64 *n)
{
	u8 *bytes = malloc(n[0] + 1);

	if (!bytes)
		give_up("the trampoline is too large to be played");
	memset(bytes, TRAMPOLINE_BYTE, n[0]);
	trampoline = (struct trampoline){ bytes, n[0], n[1], n[2], n[3] };
}

static void set_area(u64 base, u64 size)
{
	if (base >= LOW_MEMORY || size > LOW_MEMORY - base)
		give_up("an area beyond 1 MiB cannot be played");
	host.area = (struct area){ base, size, physical(base), &trampoline };
	*status_word(&host.area) = 0;
	forget_changes();
}

static void add_segment(const u64 *n)
{
	if (image->nr_segments == SEGMENTS_MAX)
		give_up("an image has no room for so many segments");
	image->segment[image->nr_segments++] =
		(struct segment){ (const u8 *)n[0], n[1], n[2], n[3] };
}

static void add_range(struct range *ranges, int *count, const u64 *n)
{
	if (*count == RANGES_MAX)
		give_up("the input has too many ranges");
	ranges[(*count)++] = (struct range){ n[0], n[1] };
}

static void obey(const char *word, const char *name, const u64 *n)
{
	if (!strcmp(word, "trampoline"))
		set_trampoline(n);
	else if (!strcmp(word, "allocate"))
		answers.low = n[0];
	else if (!strcmp(word, "area"))
		set_area(n[0], n[1]);
	else if (!strcmp(word, "image"))
		image->type = n[0], image->entry = n[1];
	else if (!strcmp(word, "segment"))
		add_segment(n);
	else if (!strcmp(word, "loaded"))
		images[1] = images[0], host.image = &images[1], images[0] = (struct image){ 0 };
	else if (!strcmp(word, "boot_params"))
		host.boot_params = n[0];
	else if (!strcmp(word, "cpu"))
		answers.online = n[0], answers.apic_id = n[1], answers.present = n[2];
	else if (!strcmp(word, "starts"))
		answers.starts = true;
	else if (!strcmp(word, "reserved"))
		add_range(answers.reserved, &answers.reserved_count, n);
	else if (!strcmp(word, "used"))
		add_range(answers.used, &answers.used_count, n);
	else if (!strcmp(word, "fail"))
		let_fail(name, n[0], n[1]);
	else if (!strcmp(word, "held"))
		host.lock = 1;
	else if (!strcmp(word, "setup"))
		multikernel_setup(&host, &trampoline), done(word, 0);
	else if (!strcmp(word, "load"))
		done(word, multikernel_load(&host, image));
	else if (!strcmp(word, "kick"))
		done(word, kicked = multikernel_kick(&host, n[0]));
	else if (!strcmp(word, "wait") && !kicked)
		done(word, multikernel_wait(&host));
	else if (!strcmp(word, "wait"))
		return;
	else
		give_up("the input has a line that is not known");
}

/* Ends with its parent, after so many seconds, and without a core file. */
static void bind_to(int parent, unsigned seconds)
{
	const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		exit(1);
	setrlimit(RLIMIT_CORE, &none);
	alarm(seconds);
}

int main(int count, char **words)
{
	char line[256];

	if (count != 3)
		give_up("it takes the parent's process id and a number of seconds");
	bind_to(atoi(words[1]), atoi(words[2]));
	setvbuf(stdout, NULL, _IOLBF, 0);	/* what was done is known after a crash, too */
	make_memory();
	while (fgets(line, sizeof(line), stdin)) {
		char *rest = line, *word = strsep(&rest, " \n"), *name = "";
		u64 n[4] = { 0 };

		if (!strcmp(word, "fail"))
			name = strsep(&rest, " \n");
		for (int i = 0; i < 4 && rest; i++)
			n[i] = strtoull(rest, &rest, 0);
		obey(word, name, n);
	}
	return 0;
}
