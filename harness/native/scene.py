# SPDX-License-Identifier: GPL-2.0-only
"""What a run finds and what is done in it: a witness as named inputs, and as lines for play.c."""

from __future__ import annotations

from dataclasses import dataclass

PAGE = 0x1000
WORDS = (0, 8, 16)  # offsets of status, kernel and boot_params in the area; the code must not care
PAGES_MAX = 1024  # to be written in one run
LOW_MEMORY = 0x10_0000


class Unplayable(Exception):
    """Says in words why a witness cannot be run."""


@dataclass(frozen=True)
class Segment:
    """`bufsz` bytes of the user's from `buf` on, for physical [mem, mem + memsz)."""

    buf: int = 0
    bufsz: int = 0
    mem: int = 0
    memsz: int = 0

    @property
    def pages(self) -> int:
        """Pages that a load writes."""
        return -(-(self.mem % PAGE + self.memsz) // PAGE)

    def __str__(self) -> str:
        return f"{self.bufsz:#x} bytes from {self.buf:#x}, for {_bytes(self.mem, self.memsz)}"


@dataclass(frozen=True)
class Image:
    """An image to be loaded or started."""

    type: int
    entry: int
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Target:
    """The CPU to be started, and what the platform says of it; errors of messages, 0 for none."""

    cpu: int = 0
    online: bool = False
    apic_id: int = 0
    present: bool = True
    init: int = 0
    sipis: tuple[int, int] = (0, 0)
    starts: bool = False


@dataclass(frozen=True)
class Scene:
    """One run. `actions`: in order, of setup, load, kick and wait. Ranges are (start, size).

    `fails`: (function of the platform, number of the call from 1 on, its result). `area`: as a
    sound set-up has left it; None: `setup` makes it. `loaded`: an image loaded before.
    """

    actions: tuple[str, ...]
    trampoline_size: int = PAGE
    low: int = 0
    area: tuple[int, int] | None = None
    image: Image | None = None
    loaded: Image | None = None
    boot_params: int = 0
    target: Target | None = None
    reserved: tuple[tuple[int, int], ...] = ()
    used: tuple[tuple[int, int], ...] = ()
    held: bool = False
    fails: tuple[tuple[str, int, int], ...] = ()

    def lines(self) -> tuple[str, ...]:
        """For play.c. Raises Unplayable."""
        images = [image for image in (self.image, self.loaded) if image is not None]
        if sum(segment.pages for image in images for segment in image.segments) > PAGES_MAX:
            raise Unplayable("more memory would be written than a run may write")
        found = [f"trampoline {self.trampoline_size} {' '.join(map(str, WORDS))}"]
        if self.area is not None:
            base, size = self.area
            if base + size > LOW_MEMORY or base % PAGE or size < PAGE:
                raise Unplayable("the area is no whole pages below 1 MiB")
            found.append(f"area {base:#x} {size:#x}")
        elif not PAGE <= self.low <= LOW_MEMORY - self.trampoline_size or self.low % PAGE:
            raise Unplayable("the set-up finds no whole pages below 1 MiB")
        found.append(f"allocate {self.low:#x}")
        if self.loaded is not None:
            found += [*_image(self.loaded), "loaded"]
        if self.image is not None:
            found += _image(self.image)
        found.append(f"boot_params {self.boot_params:#x}")
        found += [f"reserved {start:#x} {size:#x}" for start, size in self.reserved]
        found += [f"used {start:#x} {size:#x}" for start, size in self.used]
        fails = list(self.fails)
        if (target := self.target) is not None:
            found.append(f"cpu {target.online:d} {target.apic_id:#x} {target.present:d}")
            found += ["starts"] if target.starts else []
            fails += [("send_init", 1, target.init)] if target.init else []
            fails += [("send_sipi", i, e) for i, e in enumerate(target.sipis, 1) if e]
        found += [f"fail {name} {number} {result:#x}" for name, number, result in fails]
        found += ["held"] if self.held else []
        cpu = 0 if self.target is None else self.target.cpu
        found += [f"kick {cpu:#x}" if action == "kick" else action for action in self.actions]
        return tuple(found)

    def inputs(self) -> dict[str, str]:
        """The same in words, by name."""
        found = {}
        if self.area is None:
            found["size of the trampoline"] = hex(self.trampoline_size)
            found["free low memory"] = hex(self.low)
        else:
            found["trampoline area"] = _bytes(*self.area)
        for name, image in (("", self.image), ("loaded before: ", self.loaded)):
            if image is not None:
                found[f"{name}type"] = str(image.type)
                found[f"{name}entry"] = hex(image.entry)
                for number, segment in enumerate(image.segments):
                    found[f"{name}segment {number}"] = str(segment)
        if self.image is not None:
            found["reserved for kernels"] = _ranges(self.reserved)
            found["used by the host"] = _ranges(self.used)
        if (target := self.target) is not None:
            found["cpu"] = f"{target.cpu}, APIC id {target.apic_id:#x}"
            found["boot_params"] = hex(self.boot_params)
        for name, number, result in self.fails:
            found[f"call {number} of {name}"] = f"fails, {result:#x}"
        found["done"] = ", ".join(self.actions)
        return found


def _image(image: Image) -> list[str]:
    found = [f"image {image.type:#x} {image.entry:#x}"]
    return found + [
        f"segment {s.buf:#x} {s.bufsz:#x} {s.mem:#x} {s.memsz:#x}" for s in image.segments
    ]


def _bytes(start: int, size: int) -> str:
    return f"{size:#x} bytes at {start:#x}"


def _ranges(ranges: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(_bytes(*one) for one in ranges) or "nothing"
