# SPDX-License-Identifier: GPL-2.0-only
"""From a concrete input to a prediction, to a run in QEMU, to what that run is evidence of."""
