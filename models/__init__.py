# SPDX-License-Identifier: GPL-2.0-only
"""What the manuals say, as z3 terms: the part of the project that a reader must trust.

No module here reads a file, calls a solver or imports another package of the project. A function
named ``*_faults`` says when the processor raises an exception instead of doing what was asked;
the function beside it says what happens otherwise, and holds only where nothing faults.

Sources. "SDM 3A 4.5" is Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3A,
section 4.5. Chapters were renumbered more than once (user interrupts, linear-address
pre-processing), so a section is cited as *number and title*: the number is that of the editions up
to 2020, in which chapter 4 is "Paging" and chapter 9 "Processor Management and Initialization";
the title finds it in any other. A number without a volume is of 3A. Instructions are cited by
their page in volume 2 ("SDM 2, LMSW"). AMD's manual (APM vol. 2) is named only where it differs.
"""
