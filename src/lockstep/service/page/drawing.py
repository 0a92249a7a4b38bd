"""Charts drawn with Matplotlib: SVG for the page, PNG for what shows images only. The one module that loads it, late.

Equal numbers give equal bytes: no ids, no dates, no random salt. In SVG text stays text, and classes stand in place of
colours, so that the page's style sheet decides them in the light, in the dark and in print. Nothing is read from disk
but Matplotlib's own fonts.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from lockstep.core.page.chart import Bar, Chart, Fill
from lockstep.core.text import display_width, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 340.0  # the units of everything here: pixels on a phone, where no chart may be scaled down
_PICTURE = 620.0  # width of a PNG: about that of what shows it
_LABEL = 12.0  # size of type
_NOTE = 10.5
_CHARACTER = 0.56  # width of an average one, by the size of type
_THICK = 9.0
_THIN = 6.0
_SVG = "http://www.w3.org/2000/svg"

#: What PNG is drawn with; the same names are classes of the page's style sheet.
_COLOURS = {
    "ink": "#1c2430",
    "quiet": "#59636e",
    "track": "#eceff3",
    "strong": "#1f5fbf",
    "soft": "#8fb4e8",
    "open": "#1f5fbf",
    "limit": "#b3261e",
}


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element for an HTML page: with title and description, without ids but theirs."""
    figure = _figure(chart, WIDTH, title=False)
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure)
    raw = io.BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _quietly(), rc_context({"svg.fonttype": "none", "svg.hashsalt": "lockstep"}):
        figure.savefig(raw, format="svg", transparent=True, metadata=metadata)
    return _cleaned(raw.getvalue(), chart, figure.get_figheight() * 72)


def png(chart: Chart) -> bytes:
    """Return a chart as a PNG on white, with its title and legend."""
    figure = _figure(chart, _PICTURE, title=True)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    raw = io.BytesIO()
    with _quietly():
        figure.savefig(raw, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    return _smaller(raw.getvalue())


def _smaller(image: bytes) -> bytes:
    """The same picture in a palette of its own few colours: a fifth of the bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(image)) as full:
        few = full.convert("RGB").quantize(24, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    raw = io.BytesIO()
    few.save(raw, format="PNG", optimize=True)
    return raw.getvalue()


# -- drawn --------------------------------------------------------------------------------------------------------


def _figure(chart: Chart, across: float, *, title: bool) -> Figure:
    """All of a chart on one axes whose units are pixels from the top left."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its font cache is nobody's business
    from matplotlib.figure import Figure

    rows = 1 if chart.stacked else len(chart.series)
    bars_height = _THICK if rows == 1 else rows * (_THIN + 1)
    row = _LABEL + 4 + bars_height + 4 + (_NOTE + 3 if any(bar.note for bar in chart.bars) else 0) + 10
    head = (24.0 + (20.0 if len(chart.series) > 1 else 0)) if title else 0.0
    foot = 16.0 if chart.limit_ms is not None else 0.0
    margin = 14.0 if title else 1.0
    height = head + foot + row * len(chart.bars) + 2 * margin
    width = across + 2 * margin
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-margin, across + margin)
    axes.set_ylim(height - margin, -margin)
    axes.set_axis_off()
    if title:
        _text(axes, 0, 12, chart.title, "ink", 14, weight="bold")
        _legend(axes, chart, 34)
    most = max([sum(bar.values) if chart.stacked else max(bar.values) for bar in chart.bars] or [0])
    scale = across / max(most, chart.limit_ms or 0, 1e-9)
    for number, bar in enumerate(chart.bars):
        _bar(axes, chart, bar, head + number * row, scale, across)
    if chart.limit_ms is not None:
        x, end = chart.limit_ms * scale, head + row * len(chart.bars)
        _rectangle(axes, x - 1, head, 1, end - head, "limit")
        _text(axes, min(x, across), end + 10, chart.limit_name, "quiet", _NOTE, align="right")
    return figure


def _bar(axes: Axes, chart: Chart, bar: Bar, top: float, scale: float, across: float) -> None:
    room = across - display_width(printable(bar.shown)) * _LABEL * _CHARACTER - 12
    _text(axes, 0, top + _LABEL - 1, _cut(bar.label, room, _LABEL), "ink", _LABEL)
    _text(axes, across, top + _LABEL - 1, bar.shown, "ink", _LABEL, align="right")
    y = top + _LABEL + 4
    if chart.stacked:
        _rectangle(axes, 0, y, across, _THICK, "track")
        x = 0.0
        for series, value in zip(chart.series, bar.values, strict=True):
            x += _part(axes, x, y, value * scale, _THICK, series.fill)
        y += _THICK
    else:
        thick = _THICK if len(chart.series) == 1 else _THIN
        for series, value in zip(chart.series, bar.values, strict=True):
            _rectangle(axes, 0, y, across, thick, "track")
            _part(axes, 0, y, value * scale, thick, series.fill)
            y += thick + (1 if len(chart.series) > 1 else 0)
    if bar.note:
        _text(axes, 0, y + _NOTE + 2, _cut(bar.note, across, _NOTE), "quiet", _NOTE)


def _part(axes: Axes, x: float, y: float, width: float, height: float, fill: Fill) -> float:
    """One part of a bar; anything above nothing shows."""
    if width <= 0:
        return 0.0
    width = max(width, 2.0)
    if fill is Fill.OPEN:
        _rectangle(axes, x + 0.6, y + 0.6, max(width - 1.2, 0.8), height - 1.2, "open")
    else:
        _rectangle(axes, x, y, width, height, fill.value)
    return width


def _legend(axes: Axes, chart: Chart, y: float) -> None:
    if len(chart.series) < 2:
        return
    x = 0.0
    for series in chart.series:
        _part(axes, x, y - 8, 14, _THICK, series.fill)
        _text(axes, x + 19, y, series.name, "quiet", _NOTE)
        x += 19 + len(series.name) * _NOTE * _CHARACTER + 22


def _rectangle(axes: Axes, x: float, y: float, width: float, height: float, role: str) -> None:
    from matplotlib.patches import Rectangle

    colour = _COLOURS[role]
    how: dict[str, Any] = (
        {"facecolor": "white", "edgecolor": colour, "linewidth": 1.2} if role == "open" else {"color": colour, "lw": 0}
    )
    axes.add_patch(Rectangle((x, y), width, height, gid=role, clip_on=False, **how))


def _text(
    axes: Axes, x: float, y: float, text: str, role: str, size: float, *, align: str = "left", weight: str = "normal"
) -> None:
    axes.text(
        x, y, printable(text), gid=role, fontsize=size, color=_COLOURS[role], ha=align, va="baseline", weight=weight,
        clip_on=False, parse_math=False,
    )  # fmt: skip


def _cut(text: str, room: float, size: float) -> str:
    """As much of a text as fits; the table has it whole."""
    most = int(room / (size * _CHARACTER))
    shown = printable(text)
    if display_width(shown) <= most:
        return shown
    while shown and display_width(shown) >= most:
        shown = shown[:-1]
    return f"{shown}…"


# -- made an element of a page ----------------------------------------------------------------------------------------


def _cleaned(raw: bytes, chart: Chart, height: float) -> str:
    """Matplotlib's document as one element: what it draws, with classes in place of styles and ids."""
    ElementTree.register_namespace("", _SVG)
    drawn = ElementTree.fromstring(raw)
    names = (f"{chart.key}-title", f"{chart.key}-desc")
    made = ElementTree.Element(
        f"{{{_SVG}}}svg",
        {
            "viewBox": f"0 0 {WIDTH + 2:g} {height:g}",
            "role": "img",
            "aria-labelledby": " ".join(names),
            "class": "chart",
        },
    )
    for tag, name, text in (("title", names[0], chart.title), ("desc", names[1], chart.description)):
        element = ElementTree.SubElement(made, f"{{{_SVG}}}{tag}", {"id": name})
        element.text = printable(text)
    for group in drawn.iter(f"{{{_SVG}}}g"):
        role = group.get("id", "")
        if role in _COLOURS:
            for inner in group:
                made.append(_shape(inner, role))
    return ElementTree.tostring(made, encoding="unicode")


def _shape(drawn: ElementTree.Element, role: str) -> ElementTree.Element:
    kept = ElementTree.Element(drawn.tag, {"class": role})
    if drawn.tag == f"{{{_SVG}}}path":
        kept.set("d", " ".join(drawn.get("d", "").split()))
        return kept
    kept.text = drawn.text
    kept.set("x", drawn.get("x", "0"))
    kept.set("y", drawn.get("y", "0"))
    style = drawn.get("style", "")
    if "text-anchor: end" in style:
        kept.set("text-anchor", "end")
    if f"{_NOTE:g}px" in style:
        kept.set("class", f"{role} small")
    return kept


class _quietly(warnings.catch_warnings):  # noqa: N801  # reads as what it does
    """Without a warning for each character that Matplotlib's own font does not have: the reader's browser may."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        return entered
