# SPDX-License-Identifier: GPL-2.0-only
"""The page shows every fact of every record, is valid by itself, and trusts no string."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from harness.record import ClaimRecord, Evidence, file_name
from reports.hints import HINTS
from reports.html import compare, render_page, write_page
from reports.summary import CLAIM_ORDER
from tests.reports.factory import (
    AGREES,
    NO_QEMU,
    NOW,
    another,
    broken,
    host_broken,
    instead,
    no_samples,
    not_replayed,
    proved,
    refuted,
    replay,
    safe_set,
    samples,
    schedule,
    witness,
)

VOID = {"meta", "br", "link", "hr", "img"}
HOSTILE = "\"'><script>alert(1)</script>&amp;<img src=//evil.example>{{ 7*7 }}"
DIFFERS = replay(
    Evidence.CONTRADICTED,
    reason="cr2 differs",
    predicted={"end": "page fault", "cr2": "0x40000000", "rip": "0x100"},
    observed={"end": "page fault", "cr2": "0x40001000", "extra": "1"},
)


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on a tag that is not closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def facts(value: Any) -> list[str]:
    """Every string, count and time that a record holds, keys of its tables included."""
    match value:
        case str():
            return [" ".join(value.split())]
        case bool() | None:
            return []
        case int():
            return [f"{value:,}"]
        case float():
            return [f"{value:.2f}"]
        case dict():
            return facts(tuple(value)) + facts(tuple(value.values()))
        case BaseModel():
            return facts(tuple(getattr(value, name) for name in type(value).model_fields))
    return [fact for item in value for fact in facts(item)]


MANY: list[ClaimRecord] = [
    proved(),
    proved(claim="paths", verdict="UNKNOWN", as_expected=False, reason="rlimit of z3 used up"),
    proved(claim="frame", expected="", samples=samples(agreed=206, contradictions=(DIFFERS,))),
    proved("third", "paths", samples=no_samples(), not_reached=tuple(f"0x{i}" for i in range(40))),
    refuted(),
    refuted(claim="hand_off", finding="MKRFC-4", safe_set=safe_set()),
    refuted(claim="paths", safe_set=safe_set(exact=False, unknown=("kernel_size = 0x7",))),
    refuted(claim="image_identity_map", finding="MKRFC-1", witness=witness(replay=not_replayed())),
    refuted("la57_posted", "no_fault", finding="LA57-4", witness=another()),
    broken(),
    host_broken(),
]


@pytest.mark.parametrize("record", MANY, ids=lambda record: f"{record.trampoline}.{record.claim}")
def test_every_fact_of_a_record_is_on_the_page(record: ClaimRecord) -> None:
    text = Page(render_page([record])).text
    # What samples that were not replayed count; and of which files it is, if of those of now.
    silent = {"", "0", "0.00", NOW}
    stated = set(facts(record)) - silent
    assert len(stated) > 15
    assert [
        fact for fact in stated if not re.search(rf"(?<!\d){re.escape(fact)}(?!\d)", text)
    ] == []


@pytest.mark.parametrize("records", [[], [proved()], [refuted()], MANY])
def test_the_page_is_balanced_and_its_links_and_ids_fit(records: list[ClaimRecord]) -> None:
    html = render_page(records)
    assert html.startswith("<!DOCTYPE html>\n")
    page = Page(html)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    files = {file_name(record.trampoline, record.claim) for record in records}
    assert {*(f"#{name}" for name in ids), *files} >= set(page.values("href"))
    refutations = sum(record.verdict == "REFUTED" for record in records)
    of_each = ("in the matrix", "in the table", "to its file")
    same_samples = Page(html).text.count("The same as those of")
    wanted = len(of_each) * len(records) + refutations + len(["#trust"]) + same_samples
    assert len(page.values("href")) == wanted


def test_the_matrix_has_a_cell_for_each_claim_of_each_trampoline() -> None:
    amiss = refuted("third", "paths", as_expected=False, expected="PROVED")
    html = render_page([proved(), refuted(), amiss])
    table = html[html.index('<table class="matrix">') :].split("</table>")[0]
    rows = [re.sub(r"<[^>]*>", " ", row).split() for row in table.split("<tr>")]
    assert rows[1:] == [
        ["claim", "multikernel", "multikernel_rfc", "third"],
        ["paths", "REFUTED!"],
        ["hand_off", "\N{CHECK MARK}"],
        ["kernel_identity_map", "MKRFC-2"],
    ]
    assert table.count("<td></td>") == 6


def test_the_page_needs_no_network_and_no_script() -> None:
    html = render_page(MANY)
    page = Page(html)
    assert "//" not in html
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)
    assert "url(" not in html and "@import" not in html
    assert not any(name.startswith("on") for name, _ in page.attributes)


def hostile(value: Any) -> Any:
    """The same record with every free text, key included, replaced by a hostile one."""
    match value:
        case Evidence():
            return value
        case str():
            return HOSTILE
        case dict():
            return {
                key if key in ClaimRecord.model_fields or key in NESTED else HOSTILE: hostile(item)
                for key, item in value.items()
            }
        case tuple():
            return tuple(hostile(item) for item in value)
    return value


NESTED = {
    key
    for model in (
        *(
            another(),
            instead(),
            samples(),
            replay(),
            *proved().obligations,
            *another().path,
            AGREES,
        ),
        *(safe_set(), *safe_set().outside),
    )
    for key in type(model).model_fields
}


def test_no_string_of_a_record_becomes_markup() -> None:
    contradicted = samples(contradictions=(DIFFERS,))
    finding = refuted(samples=contradicted, safe_set=safe_set(), witness=another())
    for record in (finding, proved()):
        record = ClaimRecord.model_validate(hostile(record.model_dump()))
        plain = Page(render_page([refuted(safe_set=safe_set())]))
        page = Page(render_page([record]))
        assert set(page.tags) <= set(plain.tags) | {"h5"}
        assert {name for name, _ in page.attributes} <= {name for name, _ in plain.attributes}
        assert HOSTILE in page.text


def test_prediction_and_observation_stand_side_by_side_with_differences_named() -> None:
    rows = [(row.name, row.predicted, row.observed, row.mark) for row in compare(DIFFERS)]
    assert rows == [
        ("end", "page fault", "page fault", ""),
        ("cr2", "0x40000000", "0x40001000", "differs"),
        ("rip", "0x100", "", "not observed"),
        ("extra", "", "1", "not predicted"),
    ]
    html = render_page([refuted(witness=witness(replay=DIFFERS))])
    assert html.count('<tr class="differs">') == 1
    assert "cr2 0x40000000 0x40001000 differs" in Page(html).text


def test_a_confirmed_outcome_is_not_said_to_differ_from_one_of_several_predicted() -> None:
    either = replay(predicted={"outcome": "any failure"}, observed={"outcome": "triple fault"})
    html = render_page([refuted(witness=witness(replay=either))])
    assert 'class="differs"' not in html
    assert "any failure triple fault allowed by the prediction" in Page(html).text


def test_samples_that_claims_share_are_told_of_once() -> None:
    others = samples(agreed=3)
    records = [
        *(proved(claim=claim) for claim in ("paths", "no_fault", "hand_off")),
        proved(claim="code", samples=others),
        proved("third", claim="paths"),
    ]
    text = Page(render_page(records)).text
    assert text.count("kernel address inputs") == 3  # two of multikernel's, one of the other's
    again = f"The same as those of paths : {samples().agreed} of {samples().count} inputs"
    assert text.count(again) == 2


def test_why_samples_were_not_replayed_is_said_of_each_claim() -> None:
    none = samples(count=0, agreed=0, spread={}, reason=NO_QEMU)
    records = [proved(claim=claim, samples=none) for claim in ("paths", "no_fault")]
    assert Page(render_page(records)).text.count(f"Not replayed: {NO_QEMU}") == 2


def test_a_finding_is_told_in_order_from_its_title_to_its_evidence() -> None:
    text = Page(render_page([refuted(safe_set=safe_set())])).text
    article = text[text.rindex("kernel_identity_map REFUTED (MKRFC-2)") :]
    parts = [
        "MKRFC-2: The kernel is mapped only to the end of its GiB",
        "At the jump RIP is the kernel's address.",
        "kernel_phys_addr 0x3ffff000",
        "It holds exactly for: the kernel's last byte below 0x1_0000_0000 (4 GiB)",
        "for example kernel_phys_addr = 0xfffff001",
        "rep stosl 6,144 times mode: real -> 16-bit protected PML4[0] = 0x93007 (4 bytes)",
        "end: jump out of the image violated: the page at kernel + 0x1000 is present",
        "CONFIRMED",
    ]
    places = [article.index(part) for part in parts[:-1]]
    assert places == sorted(places)
    assert article.index(parts[-1], places[-1]) > places[-1]


def test_the_list_of_findings_comes_first_and_says_for_which_inputs_each_claim_holds() -> None:
    records = [
        refuted(safe_set=safe_set()),
        refuted(claim="paths", finding="", title="", as_expected=False, reason="two paths"),
    ]
    text = Page(render_page(records)).text
    listed = text[text.index("Findings") : text.index("Verdicts")]
    assert (
        "MKRFC-2 : The kernel is mapped only to the end of its GiB It holds exactly for: the"
        in listed
    )
    assert "multikernel_rfc paths : two paths" in listed
    assert "Findings" not in Page(render_page([proved()])).text


def test_a_safe_set_that_is_not_exact_is_not_called_so() -> None:
    words = "It holds at least for: the kernel's last byte below 4 GiB."
    partial = safe_set(exact=False, unknown=("kernel_size = 0x7",), sentence=words)
    text = Page(render_page([refuted(safe_set=partial)])).text
    assert words in text and "holds exactly for:" not in text
    assert "Not exact: " in text and "Exact: " not in text
    assert "Unknown: kernel_size = 0x7" in text
    whole = Page(render_page([refuted(safe_set=safe_set())])).text
    assert "Exact: " in whole and "Unknown:" not in whole


def test_the_story_stands_under_the_modes_in_which_its_steps_run() -> None:
    text = Page(render_page([refuted()])).text
    assert "what changes real 0x11 trampoline_data_bsp" in text
    assert "64-bit 0x162 startup_64_bsp+0x5e" in text
    assert "0 times" not in text


def test_how_a_path_ends_may_be_any_words() -> None:
    end = "execution of bytes that the path itself wrote: `hlt` may have been overwritten"
    assert end in Page(render_page([refuted(witness=witness(end=end), paths=(end,))])).text


def test_without_a_replay_nothing_is_said_to_differ() -> None:
    html = render_page([refuted(witness=witness(replay=not_replayed()))])
    assert "0x40000000" in html
    assert 'class="differs"' not in html and "QEMU showed" not in html
    assert "evidence: not replayed: qemu-system-x86_64 not found" in Page(html).text


def test_the_first_sentence_says_what_is_proved() -> None:
    text = Page(render_page([proved(), proved(claim="paths"), refuted()])).text
    assert "2 of 3 claims on 2 trampolines. All as the contracts expect." in text


def test_facts_of_a_trampoline_are_said_once_or_with_their_claims() -> None:
    shared = proved(claim="paths")
    other = proved(assumptions=("The CPU has long mode.", "RAX is zero."), paths=("halted",) * 3)
    text = Page(render_page([shared, other])).text
    assert text.count("The CPU has long mode.") == 1 + len(["where all assumptions are"])
    assert "RAX is zero. (only: hand_off)" in text
    assert "halted (3 paths) (only: hand_off)" in text


def test_the_page_is_written_where_it_was_asked_for(tmp_path: Path) -> None:
    write_page(MANY, tmp_path / "out" / "index.html")
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8") == render_page(MANY)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_the_page_is_the_same_for_any_order_of_records() -> None:
    assert render_page(MANY) == render_page(MANY[::-1])


def test_the_status_words_changes_are_drawn() -> None:
    page = Page(render_page([broken(schedules=())]))
    assert "svg" in page.tags
    assert page.text.count("host: xchg") == 1


def test_without_graphviz_the_changes_are_listed_and_the_page_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    page = Page(render_page([broken(schedules=())]))
    assert "svg" not in page.tags
    assert "Graphviz is not installed" in page.text
    assert "from to by how where free started CPU store" in page.text


def test_a_claim_is_as_well_shown_as_the_worst_of_its_schedules() -> None:
    assert broken().evidence.startswith(Evidence.NOT_REPLAYABLE)
    contradicted = broken(schedules=(*broken().schedules, schedule("", Evidence.CONTRADICTED)))
    assert "CONTRADICTED" in Page(render_page([contradicted])).text
    assert contradicted.evidence.startswith(Evidence.CONTRADICTED)


def test_each_row_of_the_obligations_has_a_cell_for_each_heading() -> None:
    """Also where the second solver was asked of some only: of what z3 has decided."""
    (asked,) = proved().obligations
    unknown = asked.model_copy(update={"name": "unknown", "second": None})
    for obligations in ((asked, unknown), (unknown, asked), (unknown,), (asked,)):
        html = render_page([proved(obligations=obligations)])
        table = html[html.index('aria-label="obligations"') :]
        table = table[: table.index("</table>")]
        head, body = table.split("<tbody>")
        assert body.count("<td") == head.count("<th ") * len(obligations)


def test_what_usually_mends_it_stands_beside_a_refutation_alone() -> None:
    text = Page(render_page([refuted(), proved()])).text
    assert text.count("What usually mends it:") == 1
    assert HINTS["kernel_identity_map"] in text
    assert set(CLAIM_ORDER) == {"paths", *HINTS}
