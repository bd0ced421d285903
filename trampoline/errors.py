# SPDX-License-Identifier: GPL-2.0-only
"""The one base class of every error that a user can cause and mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave: `str(error)` is one sentence saying what and what to do.

    Front ends print that sentence and end with an exit code other than 0; they show no traceback.
    """
