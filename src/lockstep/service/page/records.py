"""What is on record, as sections of the page: backups, who approved what, the audit trail. Pure."""

from __future__ import annotations

from lockstep.core.approval import Approval, How, Standing
from lockstep.core.auditwords import about, more
from lockstep.core.duration import format_ms
from lockstep.core.migration import label
from lockstep.core.moments import minute
from lockstep.core.page.document import DASH, Cell, Column, Light, Section, Table
from lockstep.core.size import format_bytes
from lockstep.service.page.facts import PageFacts
from lockstep.service.page.wording import count, one_line, said
from lockstep.storage.backups import ListedBackup

BACKUPS = 5  # of each environment
_STANDINGS = {
    Standing.APPROVED: Light.GOOD,
    Standing.WAITING: Light.NOTE,
    Standing.REJECTED: Light.BAD,
    Standing.EXPIRED: Light.NOTE,
    Standing.WITHDRAWN: Light.NOTE,
}
_HOW = {
    How.COMMAND: "own connection",
    How.PROMPT: "the run's terminal",
    How.FLAG: "--approve beforehand",
    How.FORM: "Prefect's form, unproven",
}

# -- backups ------------------------------------------------------------------------------------------------------


def backups(facts: PageFacts) -> Section:
    lead = f"In {facts.backup_place}." if facts.backup_place else "There is no [backup] in lockstep.toml."
    if facts.backups_error is not None:
        lead = f"The bucket could not be read: {said(facts.backups_error)}"
    rows = []
    gone = 0
    for name, found in (facts.backups or {}).items():
        rows += [_backup_row(name, one) for one in found[:BACKUPS]]
        gone += max(0, len(found) - BACKUPS)
    return Section(
        id="backups",
        title="Backups",
        lead=lead,
        tables=(
            Table(
                caption="The newest backups of each environment, newest first",
                columns=(
                    Column(text="environment"), Column(text="taken (UTC)"), Column(text="verified"),
                    Column(text="stood at"), Column(text="size", number=True), Column(text="encrypted"), Column(text="backup"),
                ),
                rows=tuple(rows),
                left_out=f"{count(gone, 'older backup')} left out: lockstep backups list" if gone else "",
                empty="There is no backup." if facts.backups is not None else "",
            ),
        ),
    )  # fmt: skip


def _backup_row(environment: str, one: ListedBackup) -> tuple[Cell, ...]:
    manifest, standing = one.manifest, one.standing
    name = Cell(text=environment)
    if manifest is None:
        damaged = Cell(text="manifest cannot be read", light=Light.BAD)
        return (name, DASH, damaged, DASH, Cell(text=format_bytes(one.folder.size)), DASH, Cell(text=one.folder.id, code=True))  # fmt: skip
    at = minute(standing.at) if standing.at else ""
    if not one.is_whole:
        verified = Cell(text="incomplete", light=Light.BAD)
    elif standing.failed:
        verified = Cell(text="damaged", light=Light.BAD, note=at)
    elif standing.level is None:
        verified = Cell(text="never", light=Light.NOTE)
    else:
        verified = Cell(text=standing.level.value, light=Light.GOOD, note=at)
    version = manifest.ledger.version if manifest.ledger else None
    return (
        name,
        Cell(text=minute(manifest.taken_at), time=True),
        verified,
        Cell(text=f"{version:03d}" if version is not None else "–"),
        Cell(text=format_bytes(one.folder.size)),
        Cell(text="age" if manifest.encrypted_to else "no"),
        Cell(text=one.folder.id, code=True),
    )


# -- who ----------------------------------------------------------------------------------------------------------


def approvals(facts: PageFacts) -> Section:
    found = [(name, one) for name, log in facts.logs.items() for one in log.approvals]
    found.sort(key=lambda pair: pair[1].request.at, reverse=True)
    gone = sum(log.approvals_left_out for log in facts.logs.values()) + max(0, len(found) - facts.rows)
    return Section(
        id="approvals",
        title="Approvals",
        tables=(
            Table(
                caption="Requests for approval and what became of them, newest first",
                columns=tuple(
                    Column(text=text)
                    for text in ("environment", "answered (UTC)", "standing", "by", "reason", "what", "rehearsal")
                ),
                rows=tuple(_approval(name, one) for name, one in found[: facts.rows]),
                left_out=f"{count(gone, 'older request')} left out: lockstep history --event ask" if gone else "",
                empty="Nothing asked for approval yet.",
            ),
        ),
    )


def _approval(environment: str, one: Approval) -> tuple[Cell, ...]:
    request, answer = one.request, one.answer
    what = ", ".join(label(name) for name in request.what[:3])
    if len(request.what) > 3:
        what += f" and {len(request.what) - 3} more"
    overridden = f"overridden: {request.overridden}" if request.overridden else ""
    return (
        Cell(text=environment),
        Cell(text=minute(answer.at if answer else request.at), time=True, note="" if answer else "asked then"),
        Cell(text=one.standing.value, light=_STANDINGS[one.standing]),
        Cell(text=answer.by or answer.role, note=f"{answer.role}, {_HOW[answer.how]}") if answer else DASH,
        Cell(text=answer.reason or "–" if answer else "–"),
        Cell(text=what or "–", note=f"run {request.run_id}"),
        Cell(text=request.headline or "–", note=overridden),
    )


def audit(facts: PageFacts) -> Section:
    found = [(name, event) for name, log in facts.logs.items() for event in log.events]
    found.sort(key=lambda pair: pair[1].at, reverse=True)
    gone = sum(log.events_left_out for log in facts.logs.values()) + max(0, len(found) - facts.rows)
    rows = []
    for name, event in found[: facts.rows]:
        what = label(event.migration_name) if event.migration_name else about(event.event, event.details)
        rows.append(
            (
                Cell(text=name), Cell(text=minute(event.at), time=True), Cell(text=event.event, bad=event.event in ("fail", "refuse")),
                Cell(text=what, note=one_line(more(event.event, event.details))[:200]),
                Cell(text=f"{event.actor}, {event.host}" if event.host else event.actor), Cell(text=format_ms(event.duration_ms)),
                Cell(text=event.run_id or "", code=True),
            )
        )  # fmt: skip
    return Section(
        id="audit",
        title="Audit trail",
        lead="Each row is chained to the one before it; lockstep history --verify proves that none is missing.",
        tables=(
            Table(
                caption="The newest events of all environments, newest first",
                columns=(
                    Column(text="environment"), Column(text="when (UTC)"), Column(text="event"), Column(text="what"),
                    Column(text="by"), Column(text="took", number=True), Column(text="run"),
                ),
                rows=tuple(rows),
                left_out=f"{count(gone, 'older event')} left out: lockstep history" if gone else "",
                empty="No log could be read, or nothing is logged yet.",
            ),
        ),
    )  # fmt: skip
