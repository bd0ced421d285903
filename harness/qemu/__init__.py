# SPDX-License-Identifier: GPL-2.0-only
"""The concrete machine: replays one kick of a target CPU on QEMU, for real from SIPI to kernel.

    Python                       QEMU (TCG), one process for thousands of jobs
    ------                       ------------------------------------------------------------
    Job                          CPU 0, the host              CPU 1, the target CPU
     | placing.py: what lies     firmware.S: reset vector,    waits for a SIPI
     |   where                   long mode, takes commands
     | link.py: stage, ring
     +------ shared RAM -------> INIT to CPU 1
                                 copies image to base,
                                 payload to kernel, magic
                                 to boot_params, tags under
                                 the probes
                                 SIPI, SIPI  ---------------> the image, from its first byte
                                                              (or entry64.S, then the image)
                                                              jump to kernel
                                                              payload.S: arrived (an `out`)
     +<----- shared RAM --------------------------------------  stores its registers
     |                                                          loads [RSI], then each probe
     | machine.py: watches                                      done; halts
     v
    Outcome

A triple fault of CPU 1 resets the whole machine. RAM and CMOS outlive that: CPU 0 comes up
again in firmware.S, counts a boot, says whether the payload's arrival byte is in the CMOS, and
goes on with the next job. A CPU that halts without arriving is PARKED, one that runs on gets an
INIT and is a HANG; the two are told apart by QEMU's own view of the CPU, asked for by QMP.

The target CPU is started in real mode, or handed over in 64-bit mode as firmware would, with 4 or
5 levels of paging, registers and page tables as the job says (`Job.entry`). The code that does that
is in ROM: a SIPI reaches it at 0xFE000, and no RAM below 1 MiB is used for it.
It can be started several times over the same memory (`Job.again`).

It can be watched (`Machine(logs=EVERYWHERE)`): all registers before each instruction, and each
store with its physical address and value. QEMU then takes 20 microseconds for an instruction, not
one.

It can lack features (`Machine(lacking=...)`); CPU 0 has them all. QEMU's debugger can stop it at
one instruction and change its registers and flags (`Job.injection`).

CPU 0 can also leave the host image for other code (`Link.enter`): harness/schedule does that.

CPU 0 does the copying, although Python could write the same RAM: QEMU translates code once, and
only a store by a CPU of its own makes it translate anew. What a job placed outside of its image
is erased before the next one, the code with UD2: nothing old can be mistaken for an arrival.

RAM for kernel and boot_params (`Machine.ram`): 0 .. 640 KiB, 1 MiB .. 0xD0000000, and 4 GiB ..
900 GiB (less if MAXPHYADDR is less than 40). The image goes below 640 KiB, or with an `entry`
anywhere. The report lies at 0xD0001000: an image that does not map it to itself gives
SHUTDOWN_AFTER_HAND_OFF without registers.

What QEMU 7.2 does not check, so that no replay can show it: data segment limits, read-only
segments, the 64 KiB limit of real mode, CR0.PG with EFER.LME and without CR4.PAE, CR0.PG cleared in
64-bit code or with CR4.PCIDE set, reserved bits of EFER (LME and NXE without the feature are
ignored), a change of LME under paging, CR4.PAE without the feature, CPUID.PDPE1GB (the tables of a
64-bit hand-over have 1 GiB pages on any CPU), L and D both set in a code descriptor, LGDT of a
base that is not canonical, RPL 3 of a null SS at CPL 0. Reserved bits of CR3 and CR4 (LA57) end in
a HANG instead of #GP.

After INIT all registers are zero, upper halves too. From 64-bit code through 32-bit code and back,
the upper half of a register stays, or is 0 if 32-bit code has written the lower one: undefined in
the manual. A read of memory that is not there is no fault. There are no paging-structure caches.
0xA0000 .. 0xBFFFF is no display memory here. Any other reset of the machine (by port 0xCF9, say)
looks like a triple fault.

It does as the manual says: a far jump through memory from 64-bit code to compatibility mode, CR0.PG
cleared there, CR4.LA57 changed without paging and the walk of as many levels afterwards, the far
return to 64-bit code with a GDT above 4 GiB, #GP for CR4.LA57 changed under paging, instructions
that were written just before they run (tests/qemu/test_entry64.py, test_again.py).

Files: protocol.h (the numbers that all sides share; protocol.py reads it), firmware.S,
entry64.S and entry64.py (the hand-over in 64-bit mode), payload.S, firmware.py (assembles them),
job.py, placing.py, link.py, vm.py (the process), debugger.py, log.py and stores.c (what the
target CPU does), lifeline.py (QEMU dies with Python), machine.py, bench.py.
"""
