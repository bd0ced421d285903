# SPDX-License-Identifier: GPL-2.0-only
"""Text of records for documents that do not take every character."""

from __future__ import annotations

import re

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """Without what XML 1.0 does not allow (2.2, Char): that becomes U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def markdown(text: str) -> str:
    """For a cell of a table in GitHub's Markdown: on one line, and nothing in it is markup."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>|#!~])", r"\\\1", line)
