# SPDX-License-Identifier: GPL-2.0-only
"""Certificates: of a proved obligation a proof object that a small, independent checker accepts.

    obligation -> conditions without arrays -> clauses -> proof -> checked
    (z3 terms)    reads                        formula    sat, elaborate    lrat, verified

What is certified: these clauses (DIMACS) contradict each other. Each step of the proof (LRAT) is
checked by `lrat`, some eighty lines that share nothing with any solver, and by a checker that is
proved correct in ACL2 where that is installed (`verified`; its proof is not run here). z3, CaDiCaL
and `elaborate` need not be believed.

What is checked on the way from obligation to clauses, so that these say no more than it does:
- reads of memory become free bytes: putting them back gives the very same terms (`reads`);
- each operation's gates: proved at each width that occurs, by z3 and bitwuzla (`operations`);
- the clauses as written: on an input that meets the hypotheses and on others, the conditions'
  literals are what evaluation of the conditions without any solver gives (`formula`).

What stays trusted: that the obligation says what its claim means, and its terms what the bytes of
the image do (the machine and the models); for single operations that two solvers do not err
together; that `blast` puts the operations together as the terms are, where the inputs tried do not
show it; and the checker. The hypotheses can be met: an input that meets them is found and
evaluated, else nothing is certified.
"""
