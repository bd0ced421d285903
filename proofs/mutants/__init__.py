# SPDX-License-Identifier: GPL-2.0-only
"""Can the claims fail? Change a trampoline in one place, and see which verdict turns."""
