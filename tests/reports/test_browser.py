# SPDX-License-Identifier: GPL-2.0-only
"""The page in a browser, headless Chromium: what it shows, asks for, and looks like."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from reports.html import write_page
from tests.reports.factory import (
    broken,
    host_broken,
    picture,
    proved,
    ranges,
    refuted,
    safe_set,
)

RECORDS = (
    proved(picture=picture()),
    proved(claim="paths"),
    refuted(safe_set=safe_set(ranges=(ranges(),))),
    broken(),
    host_broken(),
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium or chromedriver not found; make test installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=Service(str(programs[1]))) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "index.html"
    write_page(RECORDS, path)
    return path


@pytest.fixture
def opened(driver: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [], "media": ""})
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.get(page.as_uri())
    return driver


def shown(driver: webdriver.Chrome, script: str) -> Any:
    return driver.execute_script(f"return {script}")


def test_nothing_is_asked_for_and_nothing_goes_wrong(page: Path, driver: webdriver.Chrome) -> None:
    driver.get_log("performance"), driver.get_log("browser")
    driver.get(page.as_uri())
    messages = [json.loads(one["message"])["message"] for one in driver.get_log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [page.as_uri()]
    assert driver.get_log("browser") == []


@pytest.mark.parametrize("table", [".matrix", ".verdicts"])
def test_matrix_and_table_lead_to_each_claim(opened: webdriver.Chrome, table: str) -> None:
    links = opened.find_elements(By.CSS_SELECTOR, f"{table} a")
    claims = ["paths", "hand_off", "kernel_identity_map", "own_mail", "load"]
    words = claims if table == ".verdicts" else ["\N{CHECK MARK}"] * 2 + [
        "MKRFC-2", "MKRFC-14", "MKRFC-18",
    ]  # fmt: skip
    assert [link.text for link in links] == words
    for link, claim in zip(links, claims, strict=True):
        link.click()
        anchor = shown(opened, "location.hash.slice(1)")
        heading = opened.find_element(By.ID, anchor).find_element(By.TAG_NAME, "h3")
        assert heading.text.startswith(claim)
        assert abs(heading.rect["y"] - shown(opened, "scrollY")) < 100 or shown(
            opened, "Math.ceil(innerHeight + scrollY) >= document.body.scrollHeight"
        )


def test_a_story_is_folded_and_opens(opened: webdriver.Chrome) -> None:
    story = next(
        one
        for one in opened.find_elements(By.TAG_NAME, "details")
        if one.find_element(By.TAG_NAME, "summary").text.startswith("Story of the witness")
    )
    table = story.find_element(By.TAG_NAME, "table")
    assert not table.is_displayed()
    story.find_element(By.TAG_NAME, "summary").click()
    assert table.is_displayed()


def test_drawings_have_a_size_and_colours(opened: webdriver.Chrome) -> None:
    shown(opened, "document.querySelectorAll('details').forEach(e => e.open = true)")
    drawings = opened.find_elements(By.CSS_SELECTOR, ".drawing svg")
    labels = {one.get_attribute("aria-label") for one in drawings}
    assert len(labels) == 4
    for one in drawings:
        assert one.rect["width"] > 600 and one.rect["height"] > 30
    fills = "[...document.querySelectorAll('.drawing rect')].map(e => getComputedStyle(e).fill)"
    assert "rgb(0, 0, 0)" not in shown(opened, fills)
    lines = ".drawing path.axis, .drawing path.event:not([d$=Z])"
    strokes = f"[...document.querySelectorAll('{lines}')].map(e => getComputedStyle(e).stroke)"
    assert "none" not in shown(opened, strokes)


def test_dark_mode_is_dark_and_can_be_read(opened: webdriver.Chrome) -> None:
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = shown(opened, colours)
    dark_wanted = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", dark_wanted)
    dark = shown(opened, colours)
    assert [sum(numbers(one)) < 384 for one in light] == [False, True]
    assert [sum(numbers(one)) < 384 for one in dark] == [True, False]
    words = "getComputedStyle(document.querySelector('.drawing text')).fill"
    assert shown(opened, words) == dark[1]


def numbers(colour: str) -> list[int]:
    return [int(part) for part in colour.strip("rgb()").split(",")]


def test_a_phone_shows_all_without_scrolling_sideways(opened: webdriver.Chrome) -> None:
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert shown(opened, "document.documentElement.scrollWidth") <= PHONE["width"]
