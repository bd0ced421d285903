# SPDX-License-Identifier: GPL-2.0-only
"""The drawings of the page: what is where in them, and that they trust no string."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from harness.record import EventRecord, PageRecord
from reports.html import render_page
from reports.memory_map import memory_map
from reports.nights import Entry
from reports.page_tables import page_tables
from reports.safe_set import safe_set as drawn_set
from reports.sequence import sequence
from reports.svg import Addresses
from reports.trend import trend
from tests.reports.factory import mapping, picture, proved, ranges, refuted, safe_set, stretch
from tests.reports.test_page import HOSTILE, Page


def shapes(drawing: Markup, name: str) -> list[dict[str, float]]:
    """Numbers of the shapes of a class."""
    found = re.findall(rf'<\w+ ([^>]*class="{name}"[^>]*)', drawing)
    return [{k: float(v) for k, v in re.findall(r'(\w+)="([-\d.]+)"', one)} for one in found]


def night(name: str, seconds: float, status: int = 0) -> Entry:
    return Entry(
        name=name,
        began="2026-11-30T01:00:00+00:00",
        fingerprint="f",
        status=status,
        seconds=seconds,
        verdicts={"PROVED": 3},
        changes=None,
    )


def test_an_axis_of_addresses_is_logarithmic_and_has_two_ends() -> None:
    axis = Addresses(12, 48, 0, 360)
    assert [axis.x(1 << power) for power in (12, 30, 48)] == [0, 180, 360]
    assert (axis.x(0), axis.x(1 << 64)) == (0, 360)
    assert axis.bar(1 << 40, (1 << 40) + 1, 0, 5, "x").args["width"] == 2


def test_the_memory_map_has_a_row_for_each_page_that_is_touched() -> None:
    drawing = memory_map(picture())
    page = Page(drawing)
    for row in ("0x1000 outside the image", "0x90000 entry", "0x91000 table+0x1000"):
        assert row in page.text
    assert len(shapes(drawing, "empty")) == 3
    assert "real-address mode, instructions: 34" in page.text
    assert "0x90000 to 0x9008b fetched in real-address mode entry" in page.text


def test_what_lies_in_two_pages_is_drawn_in_both() -> None:
    drawing = memory_map(picture(stretches=(stretch("0x90ffc", "0x91004", "written"),)))
    low, high = shapes(drawing, "mode1")[1:]  # behind the one of the legend
    assert low["x"] > high["x"] and low["y"] < high["y"]
    assert low["width"] == high["width"]


def test_page_tables_are_bars_over_the_address_space() -> None:
    elsewhere = mapping(start="0x100000000", end="0x140000000", physical="0x0", page=1 << 30)
    drawing = page_tables(picture(mappings=(mapping(), elsewhere)))
    (same,), (other,) = shapes(drawing, "same"), shapes(drawing, "other")
    assert other["x"] == pytest.approx(same["x"] + same["width"])
    text = Page(drawing).text
    assert (
        "0x0 to 0xffffffff to itself, rwx, pages of 2 MiB, by PML4[0].PDPT[0].PD[0] to PDPT[3]"
        in text
    )
    assert "0x100000000 to 0x13fffffff to 0x0, rwx, pages of 1 GiB" in text
    assert "256 TiB" in text


def test_five_levels_have_an_axis_to_128_pib() -> None:
    drawing = page_tables(picture(mappings=(mapping(entries="PML5[0].PML4[0].PDPT[0]"),)))
    assert "128 PiB" in Page(drawing).text


def test_a_safe_set_has_a_bar_for_each_box() -> None:
    parts = (ranges(), ranges("outside", low="0x100000000", high="0xffffffffffffffff", alone=False))
    drawing = drawn_set(safe_set(ranges=parts))
    assert drawing is not None
    (inside,), (outside,) = shapes(drawing, "inside"), shapes(drawing, "outside partly")
    assert outside["x"] == pytest.approx(inside["x"] + inside["width"])
    text = Page(drawing).text
    assert "holds: kernel_phys_addr from 0x0 to 0xffffffff" in text
    assert "to 0xffffffffffffffff, and on a further condition" in text
    assert drawn_set(safe_set()) is None
    everything = ranges("outside", high="0xffffffffffffffff", alone=False)
    without = drawn_set(safe_set(ranges=(*parts, everything)))
    assert without == drawing


def test_a_schedule_s_arrows_go_to_memory_from_there_and_to_the_cpu() -> None:
    steps = ("begin: CPU 1", "store kernel", "INIT", "fence")
    events = [EventRecord(who="host", what=what, where="kick.c:1") for what in steps]
    events.append(EventRecord(who="CPU 1", what="load kernel", where="start+0x1"))
    drawing = sequence(events)
    host, cpu, memory = ((number + 0.5) * 920 / 3 for number in range(3))
    arrows = re.findall(r'<path d="M([\d.]+),[\d.]+ L([\d.]+),[\d.]+" class="event"', drawing)
    expected = [(host, memory), (host, cpu), (memory, cpu)]
    for arrow, wanted in zip(arrows, expected, strict=True):
        assert list(map(float, arrow)) == pytest.approx(wanted)
    assert drawing.count("<circle") == 2
    assert "2. store kernel kick.c:1" in Page(drawing).text


def test_attempts_are_counted_and_the_last_step_is_marked() -> None:
    steps = ("begin: CPU 1", "INIT", "begin: CPU 2", "INIT")
    drawing = sequence([EventRecord(who="host", what=what, where="") for what in steps])
    said = Page(drawing).text
    assert "1. begin: CPU 1 (attempt 1)" in said and "3. begin: CPU 2 (attempt 1)" in said
    again = sequence([EventRecord(who="host", what="begin: CPU 1", where="")] * 2)
    assert "2. begin: CPU 1 (attempt 2)" in Page(again).text
    bold = re.findall(
        r'<text[^>]*font-weight="bold"[^>]*>(?:<title>[^<]*</title>)?([^<]*)', drawing
    )
    assert bold == ["host", "CPU 1", "CPU 2", "memory", "4. INIT"]
    one = sequence([EventRecord(who="host", what=what, where="") for what in steps[:2]])
    lanes = 4 + 3  # host, both CPUs or one, memory: and the line before the second attempt
    assert drawing.count('class="axis"') + one.count('class="axis"') == lanes + 1


def test_stores_that_wait_and_inits_that_come_late_have_no_arrow() -> None:
    steps = ("begin: CPU 1", "INIT, late", "store kernel", "a store becomes visible", "xchg status")
    drawing = sequence([EventRecord(who="host", what=what, where="") for what in steps])
    assert drawing.count("<circle") == 3
    assert len(re.findall(r'<path d="M[^Z"]*" class="event"', drawing)) == 2


def test_addresses_of_the_upper_half_are_drawn_where_their_bits_are() -> None:
    high = mapping(start="0xffff800000000000", end="0xffff800040000000", page=1 << 30)
    low = mapping(start="0x800000000000", end="0x800040000000", page=1 << 30)
    bars = [shapes(page_tables(picture(mappings=(one,))), "other")[0] for one in (high, low)]
    assert bars[0] == bars[1]


def test_the_trend_begins_with_the_second_night() -> None:
    nights = [night("2026-11-29", 1200), night("2026-11-30", 2400, status=1)]
    assert trend(nights[:1]) is None
    drawing = trend(nights)
    assert drawing is not None
    (first,), (second,) = shapes(drawing, "inside"), shapes(drawing, "known")
    assert second["height"] == 2 * first["height"]
    assert "2026-11-30: 40 min, found or changed; 3 PROVED" in Page(drawing).text
    assert "The last nights" in render_page([proved()], nights=nights)
    assert "The last nights" not in render_page([proved()], nights=nights[:1])


def test_drawings_trust_no_string() -> None:
    events = [EventRecord(who=HOSTILE, what=HOSTILE, where=HOSTILE)]
    pages = (PageRecord(start="0x0", where=HOSTILE),)
    hostile = picture(stretches=(stretch("0x1", "0x2", "read", where=HOSTILE),), pages=pages)
    parts = (ranges(quantity=HOSTILE),)
    nights = [night(HOSTILE, 1), night(HOSTILE, 1)]
    for drawing in (
        sequence(events),
        memory_map(hostile),
        drawn_set(safe_set(ranges=parts)),
        trend(nights),
    ):
        assert drawing is not None
        page = Page(drawing)
        assert "script" not in page.tags and "img" not in page.tags
        assert "alert(1)" in page.text


def test_the_page_has_the_pictures_of_a_trampoline_and_its_safe_sets() -> None:
    records = [proved(picture=picture()), refuted(safe_set=safe_set(ranges=(ranges(),)))]
    html = render_page(records)
    for label in ("memory that one start touches", "what the page tables map", "the safe set over"):
        assert html.count(f'aria-label="{label}') == 1
    assert "real-address mode (34), then" in " ".join(html.split())
