// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kick as the RFC does, and the use that its status word was made for.
 */
#include "cpu.h"
#include "host.h"
#include "lock.h"
#include "multikernel.h"
#include "platform.h"
#include "wake_up.h"

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
	if (!host->image)			/* of whatever type */
		goto out;
	apic_id = cpu_apic_id(cpu);
	if (apic_id == INVALID_APIC_ID || !apic_id_present(apic_id))
		goto out;

	*kernel_word(area) = host->image->entry;
	*boot_params_word(area) = host->boot_params;

	warm_reset_set(area->base);
	memory_barrier();
	error = wake_up(apic_id, area->base);

	/* At once, without having read it. */
	*status_word(area) = STATUS_FREE;
	if (error)
		warm_reset_undo();
out:
	unlock(host);
	return error;
}

/*
 * Nothing in the RFC waits. This is what the trampolines that it descends from do with their word:
 * a marker means that the CPU started, none until the time is over that it never responded.
 */
int multikernel_wait(struct host *host)
{
	const struct area *area = &host->area;

	do {
		if (*status_word(area) == STATUS_STARTED)
			return VERDICT_STARTED;
	} while (!relax());
	return VERDICT_NOT_RESPONDING;
}
