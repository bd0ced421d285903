# SPDX-License-Identifier: GPL-2.0-only
"""The state diagram of a status word, drawn by Graphviz from the transitions that were recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable

import graphviz
from markupsafe import Markup

from harness.record import TransitionRecord


def state_diagram(transitions: Iterable[TransitionRecord]) -> Markup | None:
    """An SVG element without identifiers, to be put into a page; None without Graphviz."""
    labels: dict[tuple[str, str], dict[str, None]] = {}
    for one in transitions:
        label = f"{one.who}: {one.what}\n{one.where}".rstrip()
        labels.setdefault((one.before, one.after), {})[label] = None
    graph = graphviz.Digraph(
        graph_attr={"bgcolor": "transparent", "nodesep": "0.4"},
        node_attr={"shape": "box", "style": "rounded", "fontname": "sans-serif"},
        edge_attr={"fontname": "sans-serif", "fontsize": "11"},
    )
    states = list(dict.fromkeys(state for edge in labels for state in edge))
    for number, state in enumerate(states):
        graph.node(str(number), label=graphviz.escape(state))
    for (before, after), said in labels.items():
        lines = "\n".join(graphviz.escape(label) for label in said)
        graph.edge(str(states.index(before)), str(states.index(after)), label=lines)
    try:
        drawn = graph.pipe(format="svg", encoding="utf-8", quiet=True)
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError):
        return None
    element = drawn[drawn.index("<svg") :]
    return Markup(re.sub(r'\s(id|xmlns|xmlns:xlink)="[^"]*"', "", element))
