/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fixed places of the switch from 4-level to 5-level paging, and its selectors.
 */
#ifndef TRAMPOLINE_LA57_H
#define TRAMPOLINE_LA57_H

/* Physical addresses. The code lies in the last KiB of the table's page. */
#define LA57_TRAMPOLINE			0x7c00	/* where a boot sector once lay */
#define LA57_TOP_TABLE			0x7000	/* entry 0 only; nothing uses the others */

/* Selectors. CODE64 and DATA are the boot protocol's __BOOT_CS and __BOOT_DS. */
#define CODE32				0x08
#define CODE64				0x10
#define DATA				0x18

/* Bytes kept free for what goes on behind the switch. */
#define GO_ON_SIZE			512

#endif
