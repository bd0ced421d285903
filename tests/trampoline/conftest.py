# SPDX-License-Identifier: GPL-2.0-only
"""A small image: its contract and source, and what is said of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trampoline.contract import load_contract
from trampoline.image import Image, ImageError, load_image

CONTRACT = """\
schema = 1
name = "small"
summary = "The least that a contract asks of an image."
[image]
{image}
[entry]
symbol = "entry"
[base]
lowest = 0x1000
limit = {limit}
[mailbox]
kernel = "kernel_word"
boot_params = "boot_params_word"
[tables]
start = "tables"
end = "tables_end"
{scratch}
[status]
word = "status"
started = 1
[kernel]
size_max = 0x1000
[boot_params]
size = 0x1000
[cpu]
maxphyaddr = [36, 52]
"""

SOURCE = """\
	.section {section}
	.globl entry
	.code16
entry:	cli
	hlt
	.balign 8
kernel_word:	.quad 0
boot_params_word:	.quad 0
status:	.long 0
	.balign 4096
tables:	.skip 4096
tables_end:
"""


class Folder:
    """A folder with a contract and what it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def source(self, old: str = "", new: str = "", section: str = ".text") -> None:
        flags = ', "ax"' if section == ".boot" else ""
        text = SOURCE.format(section=section + flags)
        assert not old or text.count(old) == 1
        (self.path / "small.S").write_text(text.replace(old, new) if old else text, "utf-8")

    def object(self, name: str = "small.o") -> Path:
        """Assemble small.S without the code under test."""
        target = self.path / name
        subprocess.run(["gcc", "-c", str(self.path / "small.S"), "-o", str(target)], check=True)
        return target

    def link(self, name: str, *options: str | Path) -> None:
        subprocess.run(["ld", "-o", self.path / name, *options], check=True)

    def load(
        self, image: str = 'source = "small.S"', scratch: str = "", limit: str = "0xA0000"
    ) -> Image:
        contract = self.path / "contract.toml"
        text = CONTRACT.format(image=image, scratch=scratch, limit=limit)
        contract.write_text(text, encoding="utf-8")
        return load_image(load_contract(contract))

    def refusal(
        self, image: str = 'source = "small.S"', scratch: str = "", limit: str = "0xA0000"
    ) -> str:
        """The error's sentence, with this folder's path left out."""
        with pytest.raises(ImageError) as caught:
            self.load(image, scratch, limit)
        sentence = str(caught.value)
        assert "\n" not in sentence
        return sentence.replace(f"{self.path}/", "")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
