# SPDX-License-Identifier: GPL-2.0-only
"""The two machines: `x86`, symbolic (angr), and `qemu`, concrete; and what decides and compares."""
