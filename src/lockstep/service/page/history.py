"""The charts of some environments as what an orchestrator's UI shows: rows of a table, and a picture in an address."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core import markdown
from lockstep.core.chronicle import Chronicle
from lockstep.core.duration import parse_duration
from lockstep.core.page.chart import Chart, charts
from lockstep.core.text import printable
from lockstep.errors import LockstepError
from lockstep.service.bounded import answer
from lockstep.service.history import chronicle
from lockstep.service.overview import PATIENCE

ROWS = 30  # of each table


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One chart."""

    key: str  # of the table's artifact: small letters and dashes
    rows: list[dict[str, str]]
    picture: str | None  # data:image/png;base64,…; None: there is nothing to draw, or it was not asked for
    text: str  # Markdown: title, and what the chart shows


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryArtifacts:
    """All of them."""

    drawn: tuple[Drawn, ...]
    unread: tuple[tuple[str, LockstepError], ...]  # environments without a place in them


def history_artifacts(
    settings: Settings, environments: Sequence[Environment], *, pictures: bool = True
) -> HistoryArtifacts:
    """Read what became of the environments, and draw it. Read-only; one that cannot be read hides no other one.

    Without `pictures` there are the tables alone, two seconds sooner.
    """
    found: list[Chronicle] = []
    unread: list[tuple[str, LockstepError]] = []

    def read(one: Environment) -> Chronicle | LockstepError:
        return answer(PATIENCE, lambda: chronicle(settings, one), name=one.name)

    if environments:
        with ThreadPoolExecutor(max_workers=min(8, len(environments))) as pool:
            for one, came in zip(environments, pool.map(read, environments), strict=True):
                if isinstance(came, Chronicle):
                    found.append(came)
                else:
                    unread.append((one.name, came))
    made = charts(found, limit_ms=parse_duration(settings.rehearsal.max_blocking), rows=ROWS)
    return HistoryArtifacts(drawn=tuple(_drawn(chart, pictures) for chart in made), unread=tuple(unread))


def _drawn(chart: Chart, pictures: bool) -> Drawn:
    table = chart.table
    return Drawn(
        key=f"history-{chart.key}",
        rows=[
            {
                column.text: printable(cell.text + (f" ({cell.note})" if cell.note else ""))
                for column, cell in zip(table.columns, row, strict=True)
            }
            for row in table.rows
        ],
        picture=_picture(chart) if pictures and chart.bars else None,
        text=f"**{chart.title}**\n\n{markdown.text(chart.description)}",
    )


def _picture(chart: Chart) -> str:
    from lockstep.service.page.drawing import png  # late: it takes a second to load

    return f"data:image/png;base64,{base64.b64encode(png(chart)).decode()}"
