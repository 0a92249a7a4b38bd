"""Samples to Markdown: medians, ratios, what each aim is and whether it is met."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.measuring import Sample
from bench.tools import DBMATE, FLOOR, LOCKSTEP, Tool
from bench.workloads import Results

#: Beginning of a workload's name -> (tool to compare with, most that Lockstep may take of its time).
AIMS: dict[str, tuple[tuple[str, float], ...]] = {
    "from empty, on disk": ((FLOOR.name, 1.15), (DBMATE.name, 0.75)),
    "from empty, in memory": ((FLOOR.name, 1.15), (DBMATE.name, 0.75)),
    "from empty, 5 ms": ((DBMATE.name, 0.25),),
    "no-op, 1": ((FLOOR.name, 1.3),),
    "status, ": ((FLOOR.name, 1.3),),
}
START_UP_AIM = 0.1  # seconds, for lockstep --version


def report(results: Results, tools: Sequence[Tool], notes: Sequence[str]) -> str:
    """Return the whole report."""
    cpu: dict[str, Callable[[Sample], float]] = {"tool": lambda s: s.cpu, "server": lambda s: s.server_cpu}
    parts = [
        *(f"- {note}" for note in notes),
        "",
        "Wall time, medians in seconds:",
        "",
        _walls(results, tools),
        "",
        "CPU seconds, medians, of the tool's process + of its database sessions:",
        "",
        _cpu(results, tools, cpu),
    ]
    if any(s.trips for row in results.samples.values() for samples in row.values() for s in samples):
        parts += ["", "Round trips of one call, counted on the way:", "", _trips(results, tools)]
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


def median(results: Results, workload: str, tool: str, of: Callable[[Sample], float]) -> float | None:
    """The median of one figure; None when the tool was not measured."""
    samples = results.samples.get(workload, {}).get(tool)
    return statistics.median(of(s) for s in samples) if samples else None


def _wall(sample: Sample) -> float:
    return sample.wall


def _walls(results: Results, tools: Sequence[Tool]) -> str:
    rows = [["workload", *(t.name for t in tools), "÷ floor", "÷ dbmate", "aim", "met"]]
    for workload in results.samples:
        ours = median(results, workload, LOCKSTEP.name, _wall)
        ratios = {}
        for other in (FLOOR.name, DBMATE.name):
            theirs = median(results, workload, other, _wall)
            ratios[other] = ours / theirs if ours is not None and theirs else None
        aims = next((a for start, a in AIMS.items() if workload.startswith(start)), ())
        words = [f"≤ {most:g} × {other}" for other, most in aims]
        verdicts = ["yes" if ratios[other] <= most else "no" for other, most in aims if ratios[other] is not None]  # type: ignore[operator]
        if workload.startswith("start-up") and ours is not None:
            words, verdicts = [f"≤ {START_UP_AIM:g} s"], ["yes" if ours <= START_UP_AIM else "no"]
        rows.append(
            [
                workload,
                *(_seconds(median(results, workload, t.name, _wall)) for t in tools),
                *(f"{r:.2f}" if r is not None else "" for r in ratios.values()),
                ", ".join(words),
                ", ".join(verdicts),
            ]
        )
    return table(rows)


def _cpu(results: Results, tools: Sequence[Tool], figures: dict[str, Callable[[Sample], float]]) -> str:
    rows = [["workload", *(t.name for t in tools)]]
    for workload in results.samples:
        cells = []
        for tool in tools:
            values = [median(results, workload, tool.name, of) for of in figures.values()]
            cells.append(" + ".join(f"{v:.2f}" for v in values if v is not None))
        rows.append([workload, *cells])
    return table(rows)


def _trips(results: Results, tools: Sequence[Tool]) -> str:
    rows = [["workload", *(t.name for t in tools)]]
    for workload, row in results.samples.items():
        if any(s.trips for samples in row.values() for s in samples):
            found = [median(results, workload, t.name, lambda s: float(s.trips)) for t in tools]
            rows.append([workload, *("" if one is None else f"{one:,.0f}" for one in found)])
    return table(rows)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def table(rows: list[list[str]]) -> str:
    """Rows, the head first, as a Markdown table."""
    head, *body = rows
    lines = [head, ["---"] + ["---:" if n < len(head) else "---" for n in range(1, len(head))], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
