# SPDX-License-Identifier: GPL-2.0-only
"""Trampolines: assembly source and contract of each, and the code that turns one into an image."""
