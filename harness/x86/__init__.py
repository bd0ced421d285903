# SPDX-License-Identifier: GPL-2.0-only
"""The symbolic machine: one CPU from SIPI through all modes to the final jump, for all inputs.

`execute` runs an image and gives a `Run`. An instruction goes this way: `engine` fetches it
(`lift` decodes), gives it to `pcode` if it is a plain one and to `system` or `transfer` if it
changes modes or segments; both see memory through `machine`, which checks segments; `translate`
checks pages; `path` knows which inputs are left and how a path ends; `loops` shortens counted
loops; `memory` is the log behind it all.
"""
