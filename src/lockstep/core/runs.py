"""Finding, among the runs of one environment, those that applied just what a run applied in another one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Ran(NamedTuple):
    """One migration that a run applied or took back."""

    name: str  # file name
    checksum: str | None
    action: str  # applied, reverted


def matching(runs: Sequence[Sequence[Ran] | None], wanted: Sequence[Ran]) -> list[int] | None:
    """Return the indexes, oldest first, of consecutive runs that together applied just `wanted`, in that order.

    `runs` are newest first. An empty one finished nothing: what it left half done belongs to the run after it, so it is
    among them. None stands for what nobody knows (a run was cut off), and nothing that it could belong to matches.
    """
    for start in range(len(runs)):
        if not runs[start]:
            continue
        there: list[Ran] = []
        chosen: list[int] = []
        for index in range(start, len(runs)):
            run = runs[index]
            if run and len(there) >= len(wanted):
                break  # the run before the first of them
            if run is None:
                there = []
                break
            there = [*run, *there]
            chosen.append(index)
        if there and there == list(wanted):
            return chosen[::-1]
    return None
