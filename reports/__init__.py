# SPDX-License-Identifier: GPL-2.0-only
"""Reports: verdict files, the page and the terminal table. Needs neither angr nor z3."""
