"""The figures of the bench in docs/explanation/performance.md: what stands between the markers, and the chart."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.chart import draw
from bench.report import report
from bench.results import Results

BEGIN = "<!-- figures: from `make bench` -->\n"
END = "<!-- end of figures -->\n"


class NoFigures(Exception):
    """A page or results that give no figures."""


def rewrite(results: Results, page: Path, chart: Path) -> None:
    """Put the report and the chart into the page. Raises NoFigures where the markers or the results are not there."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise NoFigures(f"{page}: needs the lines {BEGIN.strip()} and {END.strip()}, once each")
    if not results.samples:
        raise NoFigures("no results yet: run make bench first")
    draw(results, chart)
    picture = f"![{_described(results)}]({Path(os.path.relpath(chart, page.parent)).as_posix()})\n"
    between = f"{picture}\n{report(results)}"
    page.write_text(
        re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: BEGIN + between + END, text, flags=re.DOTALL)
    )


def _described(results: Results) -> str:
    """What is on the picture, for who does not see it."""
    return (
        f"Bars of wall time for {len(results.tools)} tools: from empty, through a slow network, with nothing to do; "
        "and lines of how each grows with the number of migrations. The tables below have the same figures"
    )
