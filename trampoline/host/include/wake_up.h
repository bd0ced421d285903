/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * INIT-SIPI-SIPI (SDM vol. 3A 9.4.4).
 */
#ifndef HOST_WAKE_UP_H
#define HOST_WAKE_UP_H

#include "host.h"
#include "platform.h"

/* Returns 0, or the error of the first message that could not be sent. */
static inline int wake_up(u32 apic_id, u64 base)
{
	int error = send_init(apic_id);

	if (!error)
		error = send_sipi(apic_id, base >> PAGE_SHIFT);
	if (!error)
		error = send_sipi(apic_id, base >> PAGE_SHIFT);
	return error;
}

#endif
