# SPDX-License-Identifier: GPL-2.0-only
"""Replays schedules of the hand-off protocol in QEMU: the assembled trampoline on two target CPUs,
and on CPU 0, as host, the very object that is proved.

    Verdict.schedule          QEMU (TCG, one thread): a debugger lets one CPU run at a time
    ----------------          -----------------------------------------------------------------
    find.py: as a file        guest/: start, platform, kernels; linked with the host's object
     | file.py                 | build.py
     v                         v
    plan.py: what the         machine.py: CPU 0 sets up and loads, then stands before its first
     | events leave open       | attempt. stepper.py: `run(cpu)`: on to the CPU's next location,
     v                         | where a breakpoint is. INIT and SIPI: through CPU 0's local APIC,
    replay.py --- follow.py ---+ when the schedule says so.
                   | one event, then agree.py: is the machine in the explorer's state?
    walk.py -------+ events are drawn; what comes of them is seen on the machine

What an event compares: where the CPU that moved now stands, the status word, both words of the
mailbox, the host's owner, the rest of the area (unless the event stores there); at a jump RIP and
RSI; when a kick or a wait returns, what it returns. Frozen CPUs do not move.

What is not decided by the two processes is Python's: which CPU is kicked, whether the platform can
send INIT and SIPI, whether another thread has the lock, whether the time of a wait is over, and
which kernel and boot_params an attempt is for. The host's loop writes `host->boot_params` and the
entry of its image as if another image had been loaded.

Between two schedules memory and CPU 0 are put back to the first attempt, and both targets get an
INIT: no reset, no boot. A triple fault ends QEMU; the next schedule then starts a new one.

Each store is visible at once (QEMU runs one CPU at a time), and no CPU lacks a feature. What breaks
only otherwise is not replayable, and says so. TLB entries survive only as QEMU keeps them.
"""
