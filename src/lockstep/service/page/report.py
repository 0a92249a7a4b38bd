"""`report`: the page, from the look at every environment to the written file. Read-only, but for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lockstep.config import Environment, Settings
from lockstep.core.migration import Folder
from lockstep.core.page.chart import charts
from lockstep.core.page.document import Answer, Document
from lockstep.errors import LockstepError
from lockstep.service.overview import Overview
from lockstep.service.page.composing import compose
from lockstep.service.page.drawing import svg
from lockstep.service.page.facts import PageFacts
from lockstep.service.page.gathering import gather
from lockstep.service.page.publishing import check_place, publish
from lockstep.service.page.rendering import render

ROWS = 30  # of history, in each table


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What was written."""

    place: str  # the file, or s3://BUCKET/KEY
    size: int  # bytes
    answers: tuple[Answer, ...]
    errors: tuple[tuple[str, LockstepError], ...]  # environments that could not be read
    environments: int


def report(
    settings: Settings,
    environments: Sequence[Environment],
    folder: Folder,
    place: str,
    *,
    base: Path,
    rows: int = ROWS,
    seen: Overview | None = None,
) -> Reported:
    """Write the page about the environments; one that cannot be read is said in it, and keeps nobody waiting.

    `seen`: the overview, where somebody has looked already. Raises UsageError and BucketError when the page cannot be
    written, ConfigError for a wrong [health].
    """
    check_place(settings, place, base=base)
    facts = gather(settings, environments, folder, rows=rows, seen=seen)
    page = composed(facts)
    body = render(page)
    return Reported(
        place=publish(settings, place, body, base=base),
        size=len(body),
        answers=page.answers,
        errors=tuple((one.environment, one.error) for one in facts.overview.environments if one.error is not None),
        environments=len(facts.overview.environments),
    )


def composed(facts: PageFacts) -> Document:
    """Return the page with its charts drawn."""
    found = charts(facts.chronicles, limit_ms=facts.max_blocking_ms, rows=facts.rows)
    return compose(facts, {chart.key: svg(chart) for chart in found if chart.bars}, found)
