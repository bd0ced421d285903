/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the host image, the payload and the Python side agree on: one source for all three.
 * Plain `#define NAME number` lines only; protocol.py reads them. Addresses are physical, offsets and
 * sizes are in bytes, every field is 8 bytes wide unless it says otherwise.
 */

/* The physical map of the machine. Low RAM lies whole below 4 GiB, high RAM is one DIMM at 4 GiB. */
#define LOW_RAM_SIZE        0xD4800000  /* 3400 MiB */
#define HIGH_RAM_BASE       0x100000000
#define ROM_BASE            0xFFFF0000
#define ROM_SIZE            0x10000
#define LOCAL_APIC          0xFEE00000
#define ROM_BELOW_1_MIB     0xF0000     /* the same ROM once more, where a SIPI reaches it */
#define HAND_OVER_CODE      0xFE000     /* entry64.S there */

/* The machine's own part of low RAM; no image, kernel or boot_params may lie in it. */
#define OWN_BASE            0xD0000000
#define OWN_SIZE            0x00800000

#define CONTROL             0xD0000000  /* one page: Python and CPU 0 talk here */
#define REPORT              0xD0001000  /* one page: the payload tells what it found */
#define HOST_STACK_TOP      0xD0003000  /* one page below it, for the timer interrupt of CPU 0 */
#define HOST_IDT            0xD0003000  /* one page */
#define HAND_OVER           0xD0004000  /* one page: what entry64.S hands over, at the offsets of REPORT */
#define STAGE               0xD0010000  /* what CPU 0 is to copy */
#define STAGE_SIZE          0x00040000
#define TABLES              0xD0100000  /* page tables of a 64-bit hand-over, unless a job has a place for them */
#define HOST_TABLES         0xD0200000  /* page tables of CPU 0 in 2 MiB pages, where it has none of 1 GiB */

/* Offsets in CONTROL. */
#define DOORBELL            0x00        /* Python: number of the command to obey; written last */
#define COMMAND             0x08        /* Python: COMMAND_... */
#define TAKEN               0x10        /* CPU 0: number of the last command it took (see firmware.S) */
#define BOOTS               0x18        /* CPU 0: how often the machine has come out of reset */
#define ARRIVED             0x20        /* CPU 0: arrival byte found after a reset or by COLLECT */
#define SIPI_VECTOR         0x28        /* Python: where CPU 1 starts, physical address >> 12 */
#define COPY_COUNT          0x30        /* Python: entries in COPIES */
#define PROBE_COUNT         0x38        /* Python: entries in PROBES */
#define PROBES              0x40        /* Python: linear addresses for the payload to load from */
#define PROBES_MAX          8
#define ENTRY               0x80        /* Python: where COMMAND_ENTER jumps to */
#define LOAD_RSI            0x88        /* Python: whether the payload loads from [RSI]: 0 or 1 */
#define COPIES              0x100       /* Python: (from, to, bytes), 24 bytes each */
#define COPIES_MAX          128
#define CONTROL_STACK_TOP   0x1000      /* for one popfq of entry64.S */

#define COMMAND_RUN         1           /* INIT CPU 1, copy, SIPI, SIPI */
#define COMMAND_COLLECT     2           /* INIT CPU 1, fetch the arrival byte */
#define COMMAND_ENTER       3           /* INIT CPU 1, leave this image for good */

/* CMOS byte that carries the arrival: an `out` needs no memory, and the byte survives a reset. */
#define CMOS_INDEX          0x70
#define CMOS_DATA           0x71
#define CMOS_ARRIVAL        0x50
#define NOT_ARRIVED         0x00
#define WRONG_MODE          0xFF        /* the payload ran outside 64-bit mode */

/* Offsets in REPORT. STAGE_...: how far the payload came; each is written after what it speaks of. */
#define REPORT_STAGE        0x00
#define REPORT_DONE         0x08        /* number of the job whose payload completed */
#define REPORT_MAGIC        0x10        /* what the load of [rsi] gave, if LOAD_RSI */
#define REPORT_VALUES       0x18        /* what the probe loads gave, PROBES_MAX of them */
#define REPORT_STACK_TOP    0x800       /* for one pushfq */
#define STAGE_REGISTERS     1
#define STAGE_MAGIC         2           /* and 2 + n after n probes */

/* Registers as the payload found them. GDTR and IDTR: 2 bytes limit, 8 bytes base (SDM 3A 2.4.1). */
#define REGISTER_RAX        0x100
#define REGISTER_RBX        0x108
#define REGISTER_RCX        0x110
#define REGISTER_RDX        0x118
#define REGISTER_RSI        0x120
#define REGISTER_RDI        0x128
#define REGISTER_RBP        0x130
#define REGISTER_RSP        0x138
#define REGISTER_R8         0x140
#define REGISTER_R9         0x148
#define REGISTER_R10        0x150
#define REGISTER_R11        0x158
#define REGISTER_R12        0x160
#define REGISTER_R13        0x168
#define REGISTER_R14        0x170
#define REGISTER_R15        0x178
#define REGISTER_RIP        0x180       /* where the payload started */
#define REGISTER_RFLAGS     0x188
#define REGISTER_CR0        0x190
#define REGISTER_CR2        0x198
#define REGISTER_CR3        0x1A0
#define REGISTER_CR4        0x1A8
#define REGISTER_EFER       0x1B0
#define REGISTER_CS         0x1B8
#define REGISTER_DS         0x1C0
#define REGISTER_ES         0x1C8
#define REGISTER_FS         0x1D0
#define REGISTER_GS         0x1D8
#define REGISTER_SS         0x1E0
#define REGISTER_TR         0x1E8
#define REGISTER_LDTR       0x1F0
#define TABLE_GDTR          0x200
#define TABLE_IDTR          0x210
