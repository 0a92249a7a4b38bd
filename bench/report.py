"""Samples to Markdown: the aims, medians, ratios, memory, the curve of cost."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.aims import judged
from bench.measuring import Sample
from bench.results import Results, client_cpu, median, seconds, server_cpu, wall
from bench.tools import LOCKSTEP

#: Forms of workloads' names, in the order in which a report shows them.
ORDER = tuple(re.compile(form) for form in (
    "start-up", "init", "from empty, on disk", "from empty, .* one-line changes$", "from empty, in memory",
    "from empty, one-line changes, in memory", "no-op, .* applied", "status, .* applied", "one pending, .* applied",
    "revert", "two environments, no-op", "two environments", r"from empty, [\d.]+ ms", "no-op, .* ms",
    "from empty, .* migrations",
))  # fmt: skip
#: What grows with the number of migrations, and what with the schema: tables of their own.
_CURVE = re.compile(r"(from empty|no-op|status|one pending), ([\d,]+) (?:one-line changes|applied)")
_SCHEMA = re.compile(r"(no-op|status|one pending), a schema of ([\d,]+) tables")


def report(results: Results) -> str:
    """Return the whole report."""
    tools = [*results.tools]
    shown = workloads(results)
    notes = [*results.notes.values(), f"measured: {'; '.join(v for v in results.tools.values() if v)}"]
    notes += [f"left out: {name} ({why})" for name, why in results.absent.items()]
    parts = [*(f"- {note}" for note in notes), ""]
    parts += ["The aims:", "", table([["aim", "measured", "met"], *judged(results)]), ""]
    parts += ["Wall time, medians in seconds:", "", _each(results, tools, shown, wall, seconds), ""]
    parts += ["How many times as long as Lockstep that is:", "", _times(results, tools, shown), ""]
    parts += [
        "CPU seconds, medians, of the tool's processes + of its database sessions:",
        "",
        _cpu(results, tools, shown),
    ]
    memory = _each(results, tools, shown, lambda s: float(s.memory), lambda v: f"{v / 2**20:.0f}" if v else "")
    parts += ["", "Memory in MiB, medians: the most that one process of the call had resident:", "", memory]
    if far := [w for w in shown if any(s.trips for samples in results.samples[w].values() for s in samples)]:
        trips = _each(results, tools, far, lambda s: float(s.trips), lambda v: f"{v:,.0f}")
        parts += ["", "Round trips of one call, counted on the way:", "", trips]
    for title, form in (
        ("What 10 and 10,000 migrations cost, medians in seconds:", _CURVE),
        ("What a growing schema costs, medians in seconds:", _SCHEMA),
    ):
        if rows := _grown(results, form):
            parts += ["", title, "", table(rows)]
    return "\n".join(parts) + "\n"


def machine() -> list[str]:
    """When and where this was measured."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "?")
    load = os.getloadavg()[0]
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model}), {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, load before: {load:.1f}"
    ]


def workloads(results: Results) -> list[str]:
    """The workloads of the large tables, in order."""
    small = f"{results.sizes.get('small', 0):,}"

    def place(name: str) -> int:
        return next((index for index, form in enumerate(ORDER) if form.match(name)), len(ORDER))

    def large(name: str) -> bool:
        grows = _CURVE.fullmatch(name) or _SCHEMA.fullmatch(name)
        return grows is None or grows[2] == small

    return sorted(filter(large, results.samples), key=place)


def _each(
    results: Results, tools: Sequence[str], shown: Iterable[str], of: Callable[[Sample], float], form: Callable[[float], str]
) -> str:  # fmt: skip
    rows = [["workload", *tools]]
    for workload in shown:
        found = [median(results, workload, tool, of) for tool in tools]
        rows.append([workload, *("" if one is None else form(one) for one in found)])
    return table(rows)


def _times(results: Results, tools: Sequence[str], shown: Iterable[str]) -> str:
    others = [tool for tool in tools if tool != LOCKSTEP.name]
    rows = [["workload", *others]]
    for workload in shown:
        ours = median(results, workload, LOCKSTEP.name, wall)
        theirs = [median(results, workload, tool, wall) for tool in others]
        if ours is not None and any(one is not None for one in theirs):
            rows.append([workload, *("" if one is None else _times_text(one / ours) for one in theirs)])
    return table(rows)


def _cpu(results: Results, tools: Sequence[str], shown: Iterable[str]) -> str:
    rows = [["workload", *tools]]
    for workload in shown:
        cells = []
        for tool in tools:
            values = [median(results, workload, tool, of) for of in (client_cpu, server_cpu)]
            cells.append(" + ".join(f"{v:.2f}" for v in values if v is not None))
        rows.append([workload, *cells])
    return table(rows)


def _grown(results: Results, form: re.Pattern[str]) -> list[list[str]]:
    """A row for each workload and tool, a column for each size; none where nothing was measured."""
    found: dict[str, dict[int, str]] = {}
    for workload in results.samples:
        if match := form.fullmatch(workload):
            found.setdefault(match[1], {})[int(match[2].replace(",", ""))] = workload
    sizes = sorted({size for row in found.values() for size in row})
    if len(sizes) < 2:
        return []
    rows = [["workload", "tool", *(f"{size:,}" for size in sizes)]]
    for what, by_size in found.items():
        tools = [t for t in results.tools if sum(t in results.samples[w] for w in by_size.values()) > 1]
        for tool in tools:
            values = [median(results, by_size[size], tool, wall) if size in by_size else None for size in sizes]
            rows.append([what, tool, *("" if one is None else seconds(one) for one in values)])
    return rows


def _times_text(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def table(rows: list[list[str]]) -> str:
    """Rows, the head first, as a Markdown table."""
    head, *body = rows
    lines = [head, ["---"] + ["---:" if n < len(head) else "---" for n in range(1, len(head))], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
