"""The first screen: are the databases in step, proven and healthy, and what waits for somebody. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.core.comparison import DISAGREEING, WAITING
from lockstep.core.health.findings import Severity
from lockstep.core.matrix import summary
from lockstep.core.moments import minute
from lockstep.core.page.document import Answer, Light, Todo, worst
from lockstep.service.drifting import Verdict
from lockstep.service.outcome import ledger_lost
from lockstep.service.overview import EnvironmentOverview
from lockstep.service.page.facts import PageFacts
from lockstep.service.page.wording import age, count, divided, listed, one_line, said
from lockstep.storage.verification import Level

_WORDS = {Light.GOOD: "Yes", Light.NOTE: "Not quite", Light.BAD: "No", Light.UNKNOWN: "Not known"}
_SEVERITIES = {Severity.CRITICAL: Light.BAD, Severity.WARNING: Light.NOTE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One thing that speaks against a yes."""

    light: Light
    text: str  # in short, with the environment
    todo: Todo | None = None


def answers(facts: PageFacts) -> tuple[Answer, ...]:
    """Return the three answers."""
    return (
        _answer("In step?", _in_step(facts), _all_in_step(facts), "migrations"),
        _answer("Proven?", _proven(facts), _all_proven(facts), "backups"),
        _answer("Healthy?", _healthy(facts), "No check found anything that should worry you.", "health"),
    )


def todos(facts: PageFacts) -> tuple[Todo, ...]:
    """Return what waits for somebody, worst first."""
    found = [point.todo for point in (*_in_step(facts), *_proven(facts), *_healthy(facts)) if point.todo is not None]
    found += _waiting(facts)
    kept = list(dict.fromkeys(found))  # an environment that cannot be reached speaks against all three
    return tuple(sorted(kept, key=lambda one: one.light.rank))


def _answer(question: str, points: list[Point], yes: str, section: str) -> Answer:
    light = worst(*(point.light for point in points))
    texts = [point.text for point in sorted(points, key=lambda one: one.light.rank) if point.light is not Light.GOOD]
    return Answer(
        question=question,
        light=light,
        word=_WORDS[light],
        text=f"{listed(texts)}." if texts else yes,
        section=section,
    )


def _unreached(one: EnvironmentOverview) -> list[Point]:
    if one.error is None:
        return []
    todo = Todo(
        environment=one.environment,
        light=Light.UNKNOWN,
        text=said(one.error),
        command=one.error.hint or f"lockstep doctor {one.environment}",
    )
    return [Point(light=Light.UNKNOWN, text=f"{one.environment} could not be read", todo=todo)]


# -- in step ------------------------------------------------------------------------------------------------------


def _in_step(facts: PageFacts) -> list[Point]:
    points = [point for one in facts.overview.environments for point in (*_unreached(one), *_ledger(one), *_drift(one))]
    for pair in facts.overview.parity:
        if pair.differences:
            text, command = divided(pair.text)
            todo = Todo(environment=pair.right, light=Light.BAD, text=text, command=command)
            points.append(Point(light=Light.BAD, text=f"{pair.right} differs from {pair.left}", todo=todo))
    for unseen in facts.overview.unseen:
        todo = Todo(environment="", light=Light.UNKNOWN, text=said(unseen.error), command=unseen.error.hint or "")
        points.append(Point(light=Light.UNKNOWN, text="the schemas could not be compared", todo=todo))
    return points


def _ledger(one: EnvironmentOverview) -> list[Point]:
    if one.error is not None:
        return []
    if one.lost is not None:
        error = ledger_lost(one)
        todo = Todo(environment=one.environment, light=Light.BAD, text=said(error), command=error.hint or "")
        return [Point(light=Light.BAD, text=f"the ledger of {one.environment} is gone", todo=todo)]
    if not one.status.initialised:
        todo = Todo(
            environment=one.environment,
            light=Light.NOTE,
            text="it has no ledger yet",
            command=f"lockstep init {one.environment}",
        )
        return [Point(light=Light.NOTE, text=f"{one.environment} has no ledger yet", todo=todo)]
    text, command = divided(summary(one.environment, one.status.rows))
    states = {row.state for row in one.status.rows}
    if states & DISAGREEING:
        light, short = Light.BAD, f"files and ledger of {one.environment} disagree"
    elif states & WAITING:
        number = sum(row.state in WAITING for row in one.status.rows)
        light, short = Light.NOTE, f"{number} pending on {one.environment}"
    else:
        return []
    return [
        Point(light=light, text=short, todo=Todo(environment=one.environment, light=light, text=text, command=command))
    ]


def _drift(one: EnvironmentOverview) -> list[Point]:
    name, report = one.environment, one.drift
    points = []
    if report is not None and report.verdict in (Verdict.DRIFT, Verdict.STALE):
        what = count(len(report.found), "object differs", "objects differ")
        todo = Todo(
            environment=name,
            light=Light.BAD,
            text=f"{what} from the schema that was recorded",
            command=f"lockstep drift {name}",
        )
        points.append(Point(light=Light.BAD, text=f"{what} on {name}", todo=todo))
    elif report is not None and report.verdict is Verdict.UNRECORDED and one.status.rows:
        points.append(Point(light=Light.NOTE, text=f"the schema of {name} is not recorded yet"))
    elif report is not None and report.verdict is Verdict.BUSY:
        points.append(Point(light=Light.NOTE, text=f"a run is at work on {name}, so its schema was not compared"))
    return [*points, *_unseen(one, "drift")]


def _unseen(one: EnvironmentOverview, *parts: str) -> list[Point]:
    """What of an environment that answers could not be looked at."""
    found = []
    for unseen in one.unseen:
        if unseen.part in parts and one.error is None:
            todo = Todo(
                environment=one.environment,
                light=Light.UNKNOWN,
                text=f"{unseen.part} could not be looked at: {said(unseen.error)}",
                command=unseen.error.hint or "",
            )
            found.append(Point(light=Light.UNKNOWN, text=f"{unseen.part} of {one.environment} was not seen", todo=todo))
    return found


def _all_in_step(facts: PageFacts) -> str:
    found = facts.overview.environments
    if not found:
        return "There is no environment yet."
    newest = max((row.version or 0 for one in found for row in one.status.rows), default=0)
    up_to = f" up to {newest:03d}" if newest else ""
    return f"{count(len(found), 'environment')}, all applied{up_to}, and nobody changed a schema by hand."


# -- proven -------------------------------------------------------------------------------------------------------


def _proven(facts: PageFacts) -> list[Point]:
    protected = [one for one in facts.overview.environments if one.protected]
    if not protected:
        return [Point(light=Light.NOTE, text="no environment is protected, so nothing is backed up or rehearsed")]
    points = [point for one in protected for point in _backup(facts, one)]
    if facts.backups_error is not None:
        todo = Todo(
            environment="",
            light=Light.UNKNOWN,
            text=f"the backups could not be listed: {said(facts.backups_error)}",
            command=facts.backups_error.hint or "lockstep backups list",
        )
        points.append(Point(light=Light.UNKNOWN, text="the bucket of the backups could not be read", todo=todo))
    return points


def _backup(facts: PageFacts, one: EnvironmentOverview) -> list[Point]:
    """The newest backup in the bucket; where that cannot be read, what the audit log knows of it."""
    name = one.environment

    def point(light: Light, text: str, command: str) -> list[Point]:
        todo = Todo(environment=name, light=light, text=text, command=command)
        return [Point(light=light, text=f"{name}: {text}", todo=todo)]

    if facts.backups is None:
        record = one.status.backups
        if record is None:
            return [Point(light=Light.UNKNOWN, text=f"the backups of {name} are not known")]
        if record.taken_at is None:
            return point(Light.BAD, "it was never backed up", f"lockstep backup {name}")
        return []
    newest = facts.newest_backup(name)
    if newest is None or newest.manifest is None:
        return point(Light.BAD, "it has no backup", f"lockstep backup {name}")
    verify = f"lockstep backups verify latest --of {name}"
    if newest.standing.failed or not newest.is_whole:
        return point(Light.BAD, "the newest backup is damaged", f"lockstep backup {name}")
    proofs = [
        listed.standing.at
        for listed in (facts.backups or {}).get(name, ())
        if listed.standing.level is Level.RESTORED and listed.standing.at is not None
    ]
    proven = max(proofs, default=None)
    if proven is None:
        return point(Light.NOTE, "no backup was ever restored to prove it", verify)
    found = []
    for at, limits, text, command in (
        (newest.manifest.taken_at, facts.backup_age, "the newest backup is {} old", f"lockstep backup {name}"),
        (proven, facts.verified_age, "the last restored backup was proven {} ago", verify),
    ):
        severity = limits.judge((facts.at - at).total_seconds() * 1_000)
        if severity is not None:
            found += point(_SEVERITIES[severity], text.format(age(at, facts.at)), command)
    return found


def _all_proven(facts: PageFacts) -> str:
    names = [one.environment for one in facts.overview.environments if one.protected]
    newest = [(name, facts.newest_backup(name)) for name in names]
    words = [
        f"{name} {age(one.manifest.taken_at, facts.at)} ago" for name, one in newest if one and one.manifest is not None
    ]
    if not words:
        return "Every protected environment has a backup."
    return f"Backed up: {listed(words)}. A backup of each was restored, and is what was backed up."


# -- healthy ------------------------------------------------------------------------------------------------------


def _healthy(facts: PageFacts) -> list[Point]:
    return [point for one in facts.overview.environments for point in (*_unreached(one), *_health(one))]


def _health(one: EnvironmentOverview) -> list[Point]:
    report = one.health
    points = _unseen(one, "health")
    if report is None:
        return points
    if report.error is not None:
        if one.error is None:
            points.append(Point(light=Light.UNKNOWN, text=f"the health of {one.environment} could not be read"))
        return points
    if report.blind:
        todo = Todo(
            environment=one.environment,
            light=Light.UNKNOWN,
            text=f"not judged: {listed(list(report.blind))}",
            command=f"lockstep health {one.environment}",
        )
        text = f"{count(len(report.blind), 'check')} of {one.environment} could not be judged"
        points.append(Point(light=Light.UNKNOWN, text=text, todo=todo))
    for severity, light in _SEVERITIES.items():
        found = [finding for finding in report.findings if finding.severity is severity]
        if not found:
            continue
        first = f"{found[0].object}: {found[0].text}" if found[0].object else found[0].text
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        number = count(len(found), severity.value, "critical" if severity is Severity.CRITICAL else "warnings")
        todo = Todo(
            environment=one.environment,
            light=light,
            text=f"{number}: {one_line(first)}{more}",
            command=f"lockstep health {one.environment}",
        )
        points.append(Point(light=light, text=f"{number} on {one.environment}", todo=todo))
    return points


# -- approvals ----------------------------------------------------------------------------------------------------


def _waiting(facts: PageFacts) -> Iterable[Todo]:
    for one in facts.overview.environments:
        for request in one.waiting:
            yield Todo(
                environment=one.environment,
                light=Light.NOTE,
                text=f"run {request.run_id} waits for approval until {minute(request.expires_at)} UTC",
                command=f"lockstep approve {request.run_id}",
            )
