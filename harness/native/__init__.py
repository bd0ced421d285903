# SPDX-License-Identifier: GPL-2.0-only
"""A host's compiled object as a program of this CPU: refutations of its load and kick, shown.

    refutation.py: the smallest     scene.py: what there is, and   build.py: the host's object and
    witness of a refuted goal   ->  what is done, in words and  -> the C files here, linked; run.py:
    and what a run shows of it      lines                          a child process, lines of JSON

The object is the one that the proofs were made of. Physical memory, the user's memory and other
CPUs are played (memory.c, platform.c, play.c); nothing here is privileged, and no emulator is
needed. shown.py says for each goal what must be seen for its violation to be confirmed.
"""
