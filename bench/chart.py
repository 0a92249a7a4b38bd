"""The chart of the bench: who needs how long, and how the cost grows. Equal results give an equal picture."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import Results, median, seconds, wall
from bench.tools import FLOOR, LOCKSTEP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# As in the charts of lockstep's own page.
_INK, _QUIET, _TRACK, _STRONG, _SOFT = "#1c2430", "#59636e", "#eceff3", "#1f5fbf", "#8fb4e8"
_STYLES = {
    LOCKSTEP.name: (_STRONG, "-"),
    FLOOR.name: (_QUIET, ":"),
    "dbmate": ("#b3261e", "-"),
    "sqlx": ("#8a6d1f", "--"),
}
_GROWN = re.compile(r"(from empty|no-op), ([\d,]+) (?:one-line changes|applied)")


def draw(results: Results, file: Path) -> None:
    """Write the chart as a PNG of few colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    small = f"{results.sizes.get('small', 0):,}"
    few = next((w for w in results.samples if re.fullmatch(r"from empty, [\d,]+ migrations, .* away", w)), "")
    figure = Figure(figsize=(10, 8.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    _bars(panels[0][0], results, "from empty, on disk", f"From empty, {small} migrations")
    _bars(panels[0][1], results, few, few[0:1].upper() + few[1:])
    _bars(panels[1][0], results, f"no-op, {small} applied", f"Nothing to do, {small} applied")
    _curve(panels[1][1], results)
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=100, facecolor="white", metadata={"Software": None})
    with Image.open(io.BytesIO(raw.getvalue())) as full:
        palette = full.convert("RGB").quantize(48, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    file.parent.mkdir(parents=True, exist_ok=True)
    palette.save(file, format="PNG", optimize=True)


def _bars(axes: Axes, results: Results, workload: str, title: str) -> None:
    """A bar per tool, the shortest on top, with its seconds."""
    found = [(value, t) for t in results.tools if (value := median(results, workload, t, wall)) is not None]
    found.sort()
    axes.set_axis_off()
    if not found:
        return
    axes.set_title(f"{title}, seconds", loc="left", fontsize=11, color=_INK, fontweight="bold")
    most = found[-1][0]
    axes.set_xlim(-0.42 * most, 1.18 * most)
    axes.set_ylim(len(found) - 0.4, -0.6)
    for place, (value, tool) in enumerate(found):
        ours = tool == LOCKSTEP.name
        axes.barh(place, most, height=0.56, color=_TRACK, lw=0)
        axes.barh(place, value, height=0.56, color=_STRONG if ours else _SOFT, lw=0)
        weight = "bold" if ours else "normal"
        axes.text(-0.02 * most, place, tool, ha="right", va="center", fontsize=9.5, color=_INK, weight=weight)
        axes.text(1.02 * most, place, seconds(value), ha="left", va="center", fontsize=9.5, color=_INK, weight=weight)


def _curve(axes: Axes, results: Results) -> None:
    """From few migrations to many: all of them applied, and nothing to do."""
    sizes = sorted({x for tool in _STYLES for x, _ in _points(results, tool, "no-op")})
    if len(sizes) < 2:
        axes.set_axis_off()
        return
    axes.set_title("From few migrations to many, seconds", loc="left", fontsize=11, color=_INK, fontweight="bold")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for tool, (colour, line) in _STYLES.items():
        for what, width in (("from empty", 1.8), ("no-op", 0.9)):
            points = _points(results, tool, what)
            if len(points) > 1:
                axes.plot(*zip(*points, strict=True), line, color=colour, lw=width, marker="o", ms=2.5 * width)
                ends.append((points[-1][1], tool if what == "from empty" else f"{tool}, nothing to do", colour))
    _names(axes, ends, sizes[-1])
    axes.set_xlim(sizes[0] / 1.3, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.5)  # room for the names
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.tick_params(colors=_QUIET, labelsize=9)
    axes.grid(which="major", color=_TRACK)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_axisbelow(True)


def _names(axes: Axes, ends: list[tuple[float, str, str]], right: int) -> None:
    """The lines' names at their ends, moved apart where they would stand in one another."""
    low, high = axes.get_ylim()
    step = (high / low) ** (1 / 26)  # the height of a name
    before = 0.0
    for value, name, colour in sorted(ends):
        place = before = max(value, before * step)
        axes.annotate(
            name, (right, place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8, color=colour
        )


def _points(results: Results, tool: str, what: str) -> list[tuple[int, float]]:
    found = []
    for workload in results.samples:
        match = _GROWN.fullmatch(workload)
        if match and match[1] == what and (value := median(results, workload, tool, wall)) is not None:
            found.append((int(match[2].replace(",", "")), value))
    return sorted(found)
