// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kick and wait, with the hand-off protocol of ../../PROTOCOL.md. The lock is held from a kick that
 * returns 0 to the end of the wait for it.
 */
#include "cpu.h"
#include "host.h"
#include "lock.h"
#include "multikernel.h"
#include "platform.h"
#include "wake_up.h"

static bool refused(u32 word)
{
	return word == STATUS_REFUSED_KERNEL || word == STATUS_REFUSED_BOOT_PARAMS ||
	       word == STATUS_REFUSED_CPU;
}

/*
 * The target must not start any more. False if it has started. Where it may still be in the area
 * from an earlier attempt, nobody else gets the area.
 */
static bool withdraw(struct host *host)
{
	u32 then = host->again ? STATUS_GIVEN_UP : STATUS_FREE;

	return compare_exchange(status_word(&host->area), host->offer, then);
}

int multikernel_kick(struct host *host, int cpu)
{
	const struct area *area = &host->area;
	u32 apic_id;
	int error;

	if (cpu_online(cpu))
		return -EBUSY;
	if (!try_lock(host))
		return -EBUSY;
	error = -EINVAL;
	if (!host->image || host->image->type != TYPE_MULTIKERNEL)
		goto out;
	apic_id = cpu_apic_id(cpu);
	if (apic_id >= APIC_IDS || !apic_id_present(apic_id))
		goto out;
	error = -EBUSY;
	if (host->taken[apic_id])
		goto out;
	host->offer = STATUS_OFFERED + apic_id;
	/* Also a CPU that has refused is still in the area: halted, on its tables. */
	host->again = *status_word(area) != STATUS_FREE;
	if (host->again && host->owner != host->offer)
		goto out;

	host->owner = host->offer;
	exchange(status_word(area), STATUS_HELD);
	*kernel_word(area) = host->image->entry;
	*boot_params_word(area) = host->boot_params;
	warm_reset_set(area->base);
	exchange(status_word(area), host->offer);	/* the mailbox is visible before it */

	error = wake_up(apic_id, area->base);
	/* A CPU that has started all the same is waited for, like any other. */
	if (!error || !withdraw(host))
		return 0;
	warm_reset_undo();
out:
	unlock(host);
	return error;
}

/* The verdict stays true: it is a locked instruction's, or the word is one that only a host ends. */
static int verdict_of(struct host *host)
{
	volatile u32 *status = status_word(&host->area);

	for (;;) {
		u32 word = *status;

		/* Free: the kernel was quick to leave the area. */
		if (word == STATUS_RUNNING || word == STATUS_FREE)
			return VERDICT_RUNNING;
		if (refused(word))
			return VERDICT_REFUSED;
		if (!relax())
			continue;
		/* Out of time. If neither succeeds, the word has changed: look again. */
		if (withdraw(host))
			return VERDICT_NOT_RESPONDING;
		if (compare_exchange(status, STATUS_STARTED, STATUS_GIVEN_UP))
			return VERDICT_STUCK;
	}
}

int multikernel_wait(struct host *host)
{
	int verdict = verdict_of(host);

	if (verdict == VERDICT_RUNNING)
		host->taken[host->offer - STATUS_OFFERED] = true;
	warm_reset_undo();
	unlock(host);
	return verdict;
}

/* `cpu` was stopped, or may be: it can be kicked again. */
int multikernel_release(struct host *host, int cpu)
{
	u32 apic_id = cpu_apic_id(cpu);

	if (apic_id >= APIC_IDS)
		return -EINVAL;
	if (!try_lock(host))
		return -EBUSY;
	host->taken[apic_id] = false;
	unlock(host);
	return 0;
}
