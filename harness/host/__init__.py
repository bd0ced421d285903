# SPDX-License-Identifier: GPL-2.0-only
"""The host's side, executed: angr runs the compiled object, and what it does is extracted.

Stock angr, with its VEX engine, is right here: plain 64-bit code, no mode switches. The object is
run one instruction at a time, so that nothing with an effect beyond registers and private memory
is executed unseen.
"""
