"""Charts: the same numbers give the same bytes, hostile names stay text, and what is left out is counted."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from lockstep.core.chronicle import Chronicle, Deploy, Ran, Window
from lockstep.core.page.chart import BARS, charts
from lockstep.service.page.drawing import png, svg

NOW = datetime(2026, 3, 12, 12, tzinfo=UTC)
EVIL = "001-<img src=x onerror=alert(1)> $x^2$ ]]>\x1b[2J\u202e&\"'"


def chronicle(count: int, name: str = "{:03d}-step") -> Chronicle:
    window = Window(ms=120.0, relation="public.<b>", mode="ACCESS EXCLUSIVE")
    deploys = tuple(
        Deploy(
            environment="prod", run_id=f"run-{n}", began=NOW, ended=NOW - timedelta(minutes=n), actor="app", applied=1,
            reverted=0, failed=0, backup_ms=2_000, rehearsal_ms=9_000, approval_ms=60_000, working_ms=100 + n,
        )
        for n in range(count)
    )  # fmt: skip
    ran = tuple(
        Ran(
            name=name.format(n) + ".sql", run_id="r", at=NOW - timedelta(minutes=n), event="apply", ms=n, rehearsed_ms=2.0 * n,
            window=window,
        )
        for n in range(count)
    )  # fmt: skip
    return Chronicle(environment="prod", target="prod (db)", deploys=deploys, ran=ran, deploys_left_out=5)


def test_equal_numbers_are_equal_bytes_without_ids_styles_or_colours() -> None:
    made = charts([chronicle(4)], limit_ms=200, rows=30)
    assert [one.key for one in made] == [
        "deploy-times",
        "blocking-windows",
        "rehearsed-and-actual",
        "slowest-migrations",
    ]
    for chart in made:
        drawn = svg(chart)
        assert drawn == svg(chart) and png(chart) == png(chart)
        assert set(re.findall(r' id="([^"]+)"', drawn)) == {f"{chart.key}-title", f"{chart.key}-desc"}
        assert " style=" not in drawn and "#" not in re.sub(r"<desc.*?</desc>", "", drawn)
        for bar in chart.bars:
            assert bar.shown in drawn  # text is text


def test_a_hostile_name_is_text_in_a_chart_and_no_formula() -> None:
    (*_, slowest) = charts([chronicle(1, EVIL)], limit_ms=None, rows=30)
    drawn = ElementTree.fromstring(svg(slowest))  # well-formed, whatever the name holds
    assert {element.tag.rpartition("}")[2] for element in drawn.iter()} == {"svg", "title", "desc", "path", "text"}
    assert any("<img src=x onerror" in (element.text or "") for element in drawn.iter() if element.tag.endswith("text"))
    assert png(slowest).startswith(b"\x89PNG")


def test_a_table_is_cut_and_says_by_how_much() -> None:
    deploys, *_ = charts([chronicle(40)], limit_ms=None, rows=30)
    assert len(deploys.bars) == BARS and len(deploys.table.rows) == 30
    assert deploys.table.left_out.startswith("15 older deploys left out")  # ten that were read, five that were not


def test_nothing_that_ran_is_no_chart() -> None:
    assert charts([chronicle(0)], limit_ms=None, rows=30) == ()
