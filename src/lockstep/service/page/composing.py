"""The page, composed of its facts: which tables it has and what stands in each cell. Pure; escapes nothing, draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from lockstep.core.comparison import DISAGREEING, WAITING, Row
from lockstep.core.health.findings import Severity
from lockstep.core.matrix import names, words
from lockstep.core.migration import label
from lockstep.core.moments import minute
from lockstep.core.page.chart import Chart
from lockstep.core.page.document import DASH, Cell, Column, Document, Figure, Light, Section, Table
from lockstep.service.drifting import Dated, Verdict
from lockstep.service.overview import EnvironmentOverview
from lockstep.service.page.answers import answers, todos
from lockstep.service.page.facts import PageFacts
from lockstep.service.page.records import approvals, audit, backups
from lockstep.service.page.wording import age, count, one_line, said
from lockstep.storage.verification import Level

_SEVERITIES = {Severity.CRITICAL: Light.BAD, Severity.WARNING: Light.NOTE, Severity.INFO: Light.GOOD}


def compose(facts: PageFacts, drawn: Mapping[str, str], charts: tuple[Chart, ...]) -> Document:
    """Return the page. `drawn`: chart key -> its SVG."""
    sections = (
        _migrations(facts),
        _deploys(facts, drawn, charts),
        _drift(facts),
        _health(facts),
        backups(facts),
        approvals(facts),
        audit(facts),
    )
    return Document(
        project=facts.project,
        at=facts.at,
        version=facts.version,
        answers=answers(facts),
        todos=todos(facts),
        environments=_environments(facts),
        sections=sections,
        contacts=facts.contacts,
        runbook=facts.runbook,
    )


# -- environments -------------------------------------------------------------------------------------------------


def _environments(facts: PageFacts) -> Table:
    return Table(
        caption="The environments, in the order of promotion",
        columns=tuple(
            Column(text=text)
            for text in ("environment", "applied", "pending", "schema", "backup", "verified", "health")
        ),
        rows=tuple(_environment(facts, one) for one in facts.overview.environments),
        empty="lockstep.toml names no environment.",
    )


def _environment(facts: PageFacts, one: EnvironmentOverview) -> tuple[Cell, ...]:
    head = Cell(text=one.environment, note=_place(one))
    backup, verified = _backup_cells(facts, one)
    if one.error is not None:
        return (head, Cell(text="not reached", light=Light.UNKNOWN, note=last_known(facts, one)), DASH, DASH, backup, verified, DASH)  # fmt: skip
    applied = [row for row in one.status.rows if row.entry is not None]
    newest = max((row.version for row in applied if row.version is not None), default=None)
    states = [row.state for row in one.status.rows]
    waits = sum(state in WAITING for state in states)
    wrong = sum(state in DISAGREEING for state in states)
    pending = Cell(text="none", light=Light.GOOD)
    if wrong:
        pending = Cell(text=f"{wrong} disagree", light=Light.BAD)
    elif waits:
        pending = Cell(text=str(waits), light=Light.NOTE)
    if not one.status.initialised:
        pending = Cell(text="no ledger", light=Light.NOTE if one.lost is None else Light.BAD)
    return (
        head,
        Cell(text="nothing" if newest is None else f"up to {newest:03d}"),
        pending,
        _schema_cell(one),
        backup,
        verified,
        _health_cell(one),
    )


def _place(one: EnvironmentOverview) -> str:
    return (one.target or "").removeprefix(one.environment).strip(" ()")


def last_known(facts: PageFacts, one: EnvironmentOverview) -> str:
    """What is known of an environment that cannot be read, and since when: its newest backup says where it stood."""
    newest = facts.newest_backup(one.environment)
    if newest is None or newest.manifest is None:
        return "nothing is known of it"
    manifest = newest.manifest
    version = manifest.ledger.version if manifest.ledger else None
    stood = f"up to {version:03d}" if version is not None else "backed up"
    return f"last known: {stood}, {minute(manifest.taken_at)} UTC"


def _schema_cell(one: EnvironmentOverview) -> Cell:
    report = one.drift
    if report is None:
        return Cell(text="not looked at", light=Light.UNKNOWN) if one.status.initialised else DASH
    if report.verdict in (Verdict.DRIFT, Verdict.STALE):
        return Cell(text=f"drift: {count(len(report.found), 'object')}", light=Light.BAD)
    if report.verdict is Verdict.NONE:
        return Cell(text="as recorded", light=Light.GOOD)
    return Cell(text=report.verdict.value, light=Light.NOTE)


def _health_cell(one: EnvironmentOverview) -> Cell:
    report = one.health
    if report is None or report.error is not None:
        return Cell(text="not looked at", light=Light.UNKNOWN)
    critical, warnings = report.count(Severity.CRITICAL), report.count(Severity.WARNING)
    if critical:
        return Cell(text=f"{critical} critical", light=Light.BAD)
    if warnings:
        return Cell(text=count(warnings, "warning"), light=Light.NOTE)
    return Cell(text="not judged", light=Light.UNKNOWN) if report.blind else Cell(text="good", light=Light.GOOD)


def _backup_cells(facts: PageFacts, one: EnvironmentOverview) -> tuple[Cell, Cell]:
    """When it was backed up, and whether a backup was proven; what is not protected needs neither."""
    newest = facts.newest_backup(one.environment)
    if newest is None or newest.manifest is None:
        if not one.protected:
            return DASH, DASH
        if facts.backups is None:
            return Cell(text="not looked at", light=Light.UNKNOWN), Cell(text="not looked at", light=Light.UNKNOWN)
        return Cell(text="none", light=Light.BAD), DASH
    taken = newest.manifest.taken_at
    severity = facts.backup_age.judge((facts.at - taken).total_seconds() * 1_000)
    light = _SEVERITIES[severity] if severity else Light.GOOD
    proven = [
        listed.standing.at
        for listed in (facts.backups or {}).get(one.environment, ())
        if listed.standing.level is Level.RESTORED and listed.standing.at is not None
    ]
    backup = Cell(text=f"{age(taken, facts.at)} ago", light=light, note=f"{minute(taken)} UTC")
    if newest.standing.failed:
        return backup, Cell(text="damaged", light=Light.BAD)
    if not proven:
        return backup, Cell(text="never", light=Light.NOTE)
    last = max(proven)
    severity = facts.verified_age.judge((facts.at - last).total_seconds() * 1_000)
    return backup, Cell(
        text=f"{age(last, facts.at)} ago",
        light=_SEVERITIES[severity] if severity else Light.GOOD,
        note=f"{minute(last)} UTC",
    )


# -- migrations ---------------------------------------------------------------------------------------------------


def _migrations(facts: PageFacts) -> Section:
    found = facts.overview.environments
    columns = {one.environment: one.status.rows for one in found if one.error is None}
    keyed: dict[str, dict[int | str, Row]] = {
        name: {(row.name if row.version is None else row.version): row for row in rows}
        for name, rows in columns.items()
    }
    everything = names(columns)[::-1]
    rows = []
    for name, version in everything:
        key = name if version is None else version
        cells = [_state(keyed[one.environment].get(key)) if one.environment in keyed else _unread() for one in found]
        rows.append((Cell(text=label(name)), *cells))
    # What is not simply applied is never left out, however old.
    kept = [row for place, row in enumerate(rows) if place < facts.rows or any(c.light is Light.BAD for c in row)]
    gone = len(rows) - len(kept)
    parity = [one.text.partition(" → ")[0] for one in facts.overview.parity]
    return Section(
        id="migrations",
        title="Migrations",
        lead=". ".join(parity) + ("." if parity else ""),
        tables=(
            Table(
                caption="Which migration is where, newest first; times in UTC",
                columns=(Column(text="migration"), *(Column(text=one.environment) for one in found)),
                rows=tuple(kept),
                left_out=f"{count(gone, 'older migration')} left out: lockstep status" if gone else "",
                empty="There are no migrations yet.",
            ),
        ),
    )


def _unread() -> Cell:
    return Cell(text="not read", light=Light.UNKNOWN)


def _state(row: Row | None) -> Cell:
    if row is None:
        return DASH
    light = Light.BAD if row.state in DISAGREEING else Light.NOTE if row.state in WAITING else Light.GOOD
    return Cell(text=words(row), light=light, note=minute(row.entry.applied_at) if row.entry else "")


# -- deploys ------------------------------------------------------------------------------------------------------


def _deploys(facts: PageFacts, drawn: Mapping[str, str], charts: tuple[Chart, ...]) -> Section:
    figures = tuple(
        Figure(
            key=chart.key,
            title=chart.title,
            svg=drawn[chart.key] if chart.bars else "",
            legend=tuple((one.fill.value, one.name) for one in chart.series) if len(chart.series) > 1 else (),
            table=chart.table,
        )
        for chart in charts
    )
    problems = [f"{name}: {said(error)}" for name, error in facts.log_errors.items()]
    lead = "Nothing was deployed yet." if not figures else ""
    if problems:
        lead = f"{lead} Not all logs could be read: {'; '.join(problems)}".strip()
    return Section(id="deploys", title="Deploys", lead=lead, figures=figures)


# -- drift --------------------------------------------------------------------------------------------------------


def _drift(facts: PageFacts) -> Section:
    rows: list[tuple[Cell, ...]] = []
    gone = 0
    for one in facts.overview.environments:
        report = one.drift
        if report is None:
            why = next((said(unseen.error) for unseen in one.unseen if unseen.part == "drift"), "")
            text = (
                "not reached"
                if one.error is not None
                else "not looked at"
                if one.status.initialised
                else "no ledger yet"
            )
            rows.append(
                (Cell(text=one.environment), Cell(text=text, light=Light.UNKNOWN), Cell(text=why), Cell(text=""))
            )
            continue
        since = f"recorded {minute(report.state.at)} UTC" if report.state else ""
        if report.verdict in (Verdict.DRIFT, Verdict.STALE):
            for dated in report.found[: facts.rows]:
                change = dated.difference.change
                parts = f"with {dated.difference.parts_text}" if dated.difference.parts else ""
                rows.append(
                    (
                        Cell(text=one.environment),
                        Cell(text=change.action.value, light=Light.BAD),
                        Cell(text=change.label, note=parts),
                        Cell(text=_when(dated)),
                    )
                )
            gone += max(0, len(report.found) - facts.rows)
        else:
            light = Light.GOOD if report.verdict is Verdict.NONE else Light.NOTE
            text = "as recorded" if report.verdict is Verdict.NONE else report.verdict.value
            rows.append((Cell(text=one.environment), Cell(text=text, light=light), Cell(text=""), Cell(text=since)))
    return Section(
        id="drift",
        title="Drift",
        lead="What somebody changed in a schema other than by a migration.",
        tables=(
            Table(
                caption="Live schemas against those that were recorded after the last run",
                columns=tuple(Column(text=text) for text in ("environment", "schema", "object", "when (UTC)")),
                rows=tuple(rows),
                left_out=f"{count(gone, 'object')} left out: lockstep drift" if gone else "",
            ),
        ),
    )


def _when(dated: Dated) -> str:
    if dated.at is not None:
        return minute(dated.at)
    first: datetime | None = dated.after.at if dated.after else dated.between[0]
    last: datetime | None = dated.before.at if dated.before else dated.between[1]
    start = f"after {minute(first)}" if first else ""
    end = f"before {minute(last)}" if last else ""
    return ", ".join(part for part in (start, end) if part) or "cannot be told"


# -- health -------------------------------------------------------------------------------------------------------


def _health(facts: PageFacts) -> Section:
    rows: list[tuple[Cell, ...]] = []
    gone = 0
    for one in facts.overview.environments:
        report = one.health
        if report is None or report.error is not None:
            why = said(report.error) if report is not None and report.error is not None else ""
            why = why or (said(one.error) if one.error is not None else "")
            rows.append(
                (Cell(text=one.environment), Cell(text="not looked at", light=Light.UNKNOWN), DASH, Cell(text=why))
            )
            continue
        if report.blind:
            why = f"not judged: {', '.join(report.blind)}"
            rows.append(
                (Cell(text=one.environment), Cell(text="not judged", light=Light.UNKNOWN), DASH, Cell(text=why))
            )
        elif not report.findings:
            rows.append(
                (Cell(text=one.environment), Cell(text="good", light=Light.GOOD), DASH, Cell(text="nothing found"))
            )
        for finding in report.findings[: facts.rows]:
            rows.append(
                (
                    Cell(text=one.environment),
                    Cell(text=finding.severity.value, light=_SEVERITIES[finding.severity]),
                    Cell(text=finding.object or finding.check, note=finding.check if finding.object else ""),
                    Cell(text=one_line(finding.text)),
                )
            )
        gone += max(0, len(report.findings) - facts.rows)
    hidden = [
        f"{one.environment}: {len({h.check for h in one.health.hidden})} of {one.health.checks} checks"
        for one in facts.overview.environments
        if one.health is not None and one.health.hidden
    ]
    return Section(
        id="health",
        title="Health",
        lead=f"Not judged in full: {'; '.join(hidden)}. lockstep health says why." if hidden else "",
        tables=(
            Table(
                caption="What the health checks found, worst first in each environment",
                columns=tuple(Column(text=text) for text in ("environment", "severity", "object", "what")),
                rows=tuple(rows),
                left_out=f"{count(gone, 'finding')} left out: lockstep health" if gone else "",
            ),
        ),
    )
