"""What was measured, kept as JSON: made in parts, by several calls, and put together. Samples are never thrown away unless
the same workload of the same tool is measured again."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.measuring import Sample
from bench.tools import Tool

VERSION = 1


class Unlike(Exception):
    """Results that may not be put together."""


@dataclass(slots=True, kw_only=True)
class Results:
    """Samples by workload and tool, and what to know of them."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)  # name -> what it says of its version
    absent: dict[str, str] = field(default_factory=dict)  # name -> why it is left out
    notes: dict[str, str] = field(default_factory=dict)  # part -> when and how it was measured
    sizes: dict[str, int] = field(default_factory=dict)  # how much was done

    def add(self, workload: str, tool: Tool | str, *samples: Sample) -> None:
        name = tool if isinstance(tool, str) else tool.name
        self.samples.setdefault(workload, {}).setdefault(name, []).extend(samples)

    def merge(self, newer: Results) -> None:
        """Take in what another call measured. What both have, the newer one has measured again.

        Raises Unlike when one of them did less, so that their figures mean different things.
        """
        if self.sizes and newer.sizes and self.sizes != newer.sizes:
            raise Unlike(
                f"other sizes were measured: {self.sizes}, now {newer.sizes}; give another --json, or remove it"
            )
        for workload, tools in newer.samples.items():
            self.samples.setdefault(workload, {}).update(tools)
        for ours, theirs in ((self.tools, newer.tools), (self.absent, newer.absent), (self.notes, newer.notes)):
            ours.update(theirs)
        self.sizes = newer.sizes or self.sizes
        self.absent = {name: why for name, why in self.absent.items() if name not in self.measured()}

    def measured(self) -> set[str]:
        return {tool for tools in self.samples.values() for tool in tools}

    def save(self, file: Path) -> None:
        """Write all of it, whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n")
        new.replace(file)


def load(file: Path) -> Results:
    """Read what was saved; nothing when there is no such file. Raises Unlike for one of another version."""
    if not file.exists():
        return Results()
    raw = json.loads(file.read_text())
    if raw.pop("version", None) != VERSION:
        raise Unlike(f"{file}: written by another version of the bench")
    samples = {w: {t: [Sample(**s) for s in many] for t, many in row.items()} for w, row in raw.pop("samples").items()}
    return Results(samples=samples, **raw)


def wall(sample: Sample) -> float:
    return sample.wall


def client_cpu(sample: Sample) -> float:
    return sample.cpu


def server_cpu(sample: Sample) -> float:
    return sample.server_cpu


def all_cpu(sample: Sample) -> float:
    return sample.cpu + sample.server_cpu


def median(results: Results, workload: str, tool: str, of: Callable[[Sample], float]) -> float | None:
    """The median of one figure; None when the tool was not measured."""
    samples = results.samples.get(workload, {}).get(tool)
    return statistics.median(of(s) for s in samples) if samples else None


def seconds(value: float) -> str:
    """A time for a table."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"
