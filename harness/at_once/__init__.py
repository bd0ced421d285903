# SPDX-License-Identifier: GPL-2.0-only
"""Several CPUs that are started in one image at once: `models.at_once`, of the assembled code.

process.py reads the process of a CPU off the run; explore.py searches shortest schedules of two
CPUs; verdict.py proves the property for any number of them, or refutes it; replay.py shows a
schedule in QEMU.
"""
