# SPDX-License-Identifier: GPL-2.0-only
"""The hand-off protocol: processes from code, proofs, schedules."""
