/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A TCG plugin: adds each store of the target CPU to QEMU's log, in program order, behind the registers that the log shows
 * before each instruction. QEMU calls it when the store is done, and the target CPU alone runs then: the value is what RAM
 * holds, read from the file behind it.
 *
 *   store LINEAR BYTES RAM VALUE      in hexadecimal; RAM is QEMU's number for the byte in its RAM, "-" where there is none
 *
 * QEMU's documentation, "QEMU TCG Plugins" (docs/devel/tcg-plugins.rst), API version 1. Declared here is what is used of it:
 * Debian has no package with the header.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol.h"

#define EXPORT __attribute__((visibility("default")))
#define TARGET 1                /* number of the target CPU */
#define NO_REGISTERS 0          /* the callback reads none */
#define READS_AND_WRITES 3      /* QEMU 7.2 calls for reads, too, when asked for writes */

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;
typedef uint64_t plugin_id;
typedef uint32_t mem_info;
typedef void on_translation(plugin_id id, struct qemu_plugin_tb *tb);
typedef void on_access(unsigned cpu, mem_info info, uint64_t linear, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, on_translation *callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, on_access *callback, int flags, int kinds, void *data);
unsigned qemu_plugin_mem_size_shift(mem_info info);
bool qemu_plugin_mem_is_store(mem_info info);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(mem_info info, uint64_t linear);
bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *where);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *where);
void qemu_plugin_outs(const char *text);

EXPORT int qemu_plugin_version = 1;

static int low, high;           /* descriptors of the files behind RAM */

static uint64_t content(uint64_t address, unsigned size)
{
	uint64_t value = 0;
	bool above = address >= HIGH_RAM_BASE;

	/* Nothing is read where there is no RAM: the value is 0 then. */
	if (pread(above ? high : low, &value, size, address - (above ? HIGH_RAM_BASE : 0)) < 0)
		value = 0;
	return value;
}

static void accessed(unsigned cpu, mem_info info, uint64_t linear, void *data)
{
	unsigned size = 1u << qemu_plugin_mem_size_shift(info);
	struct qemu_plugin_hwaddr *where;
	char line[128], ram[32] = "-";

	(void)data;
	if (cpu != TARGET || !qemu_plugin_mem_is_store(info))
		return;
	where = qemu_plugin_get_hwaddr(info, linear);
	if (where && !qemu_plugin_hwaddr_is_io(where))
		snprintf(ram, sizeof ram, "%lx", qemu_plugin_hwaddr_phys_addr(where));
	snprintf(line, sizeof line, "store %lx %x %s %lx\n", linear, size, ram, content(linear, size));
	qemu_plugin_outs(line);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	(void)id;
	for (size_t index = 0; index < qemu_plugin_tb_n_insns(tb); index++)
		qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, index), accessed, NO_REGISTERS, READS_AND_WRITES, NULL);
}

/* Arguments: "low=DESCRIPTOR" and "high=DESCRIPTOR". */
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments)
{
	(void)info;
	for (int index = 0; index < count; index++) {
		if (!strncmp(arguments[index], "low=", 4))
			low = atoi(arguments[index] + 4);
		if (!strncmp(arguments[index], "high=", 5))
			high = atoi(arguments[index] + 5);
	}
	if (!low || !high)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
