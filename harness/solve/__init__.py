# SPDX-License-Identifier: GPL-2.0-only
"""From obligations to verdicts: z3 decides, every refutation is evaluated again without it."""
