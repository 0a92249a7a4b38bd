"""Finding, among the runs of one environment, those that applied just what a run applied in another one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Ran(NamedTuple):
    """One migration that a run applied or took back."""

    name: str  # file name
    checksum: str | None
    action: str  # applied, reverted


def matching(runs: Sequence[Sequence[Ran]], wanted: Sequence[Ran]) -> list[int] | None:
    """Return the indexes, oldest first, of consecutive runs that together applied just `wanted`, in that order.

    `runs` are newest first; those without migrations (something was accepted) do not count. None: there are none.
    """
    counted = [index for index, run in enumerate(runs) if run]
    for start in range(len(counted)):
        there: list[Ran] = []
        chosen: list[int] = []
        for index in counted[start:]:
            there = [*runs[index], *there]
            chosen.append(index)
            if len(there) >= len(wanted):
                break
        if there == list(wanted):
            return chosen[::-1]
    return None
