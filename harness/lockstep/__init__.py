# SPDX-License-Identifier: GPL-2.0-only
"""The symbolic machine against a concrete one, instruction by instruction."""
