# SPDX-License-Identifier: GPL-2.0-only
"""The claims, as pytest: one file per family, one function per claim, its docstring the claim."""
