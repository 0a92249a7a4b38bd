"""What an overview comes to: one outcome per environment, in one sentence with what to do next.

The rule for "somebody must look" is here, and nowhere else: flow, report, page and alerts ask it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from lockstep.core.comparison import DISAGREEING, WAITING
from lockstep.core.duration import format_ms
from lockstep.core.health.findings import Finding, Severity
from lockstep.core.matrix import summary
from lockstep.core.moments import utc_minute
from lockstep.errors import ExitCode, LedgerError, LockstepError, Unhealthy, Unreachable
from lockstep.service.drifting import Verdict
from lockstep.service.overview import EnvironmentOverview, Overview


class Grade(Enum):
    """How much something asks for."""

    GOOD = "in order"
    DUE = "something is due"  # pending migrations, a warning, an approval: ordinary, and somebody's turn
    WRONG = "look at it"  # not readable, disagreement, drift, out of parity, critical health


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it should be, or somebody's turn."""

    part: str  # reach, files, drift, parity, health, approval, unseen
    grade: Grade
    text: str  # in one line
    command: str | None  # what to do next
    error: LockstepError | None = None  # as a run that fails of it tells it; of what is WRONG


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one environment comes to."""

    environment: str
    problems: tuple[Problem, ...]  # worst first
    good: str  # what can be said when there is none

    @property
    def grade(self) -> Grade:
        return self.problems[0].grade if self.problems else Grade.GOOD

    @property
    def command(self) -> str | None:
        return self.problems[0].command if self.problems else None

    @property
    def text(self) -> str:
        """Return the outcome in one sentence, without what to do next."""
        if not self.problems:
            return self.good
        rest = len(self.problems) - 1
        more = f" (and {rest} more: {', '.join(dict.fromkeys(one.part for one in self.problems[1:]))})" if rest else ""
        return f"{self.problems[0].text}{more}"

    @property
    def sentence(self) -> str:
        """Return the outcome in one sentence, with what to do next."""
        return f"{self.text} → {self.command}" if self.command else self.text

    @property
    def error(self) -> LockstepError | None:
        """Return what a run that found this fails with; None: nobody must look."""
        return next((one.error for one in self.problems if one.grade is Grade.WRONG), None)


def outcomes(found: Overview) -> tuple[Outcome, ...]:
    """Return what each environment comes to, in their order."""
    return tuple(outcome(one, found) for one in found.environments)


def outcome(one: EnvironmentOverview, found: Overview | None = None) -> Outcome:
    """Return what one environment comes to; without the overview its parity is left out."""
    rank = list(Grade)
    problems = sorted(_problems(one, found), key=lambda problem: -rank.index(problem.grade))
    return Outcome(environment=one.environment, problems=tuple(problems), good=_good(one))


def weighty(one: EnvironmentOverview) -> tuple[Finding, ...]:
    """Return the findings of health that somebody is told of: critical ones and warnings, worst first."""
    if one.health is None:
        return ()
    return tuple(finding for finding in one.health.findings if finding.severity is not Severity.INFO)


def drifted(one: EnvironmentOverview) -> bool:
    return one.drift is not None and one.drift.verdict is Verdict.DRIFT


def drift_labels(one: EnvironmentOverview) -> tuple[str, ...]:
    """Return what drifted, object by object: `table public.customers`."""
    return tuple(each.difference.change.label for each in one.drift.found) if drifted(one) and one.drift else ()


# -- problems ------------------------------------------------------------------------------------------------------------


def _problems(one: EnvironmentOverview, found: Overview | None) -> Iterator[Problem]:
    name, status = one.environment, one.status
    if status.error is not None:
        yield Problem(
            part="reach",
            grade=Grade.WRONG,
            text=_unreadable(status.error),
            command=status.error.hint,
            error=status.error,
        )
        return
    if not status.initialised:
        yield _without_ledger(one)
    else:
        yield from _files(one)
    yield from _drift(one)
    if found is not None:
        for pair in found.parity:
            if pair.right == name and pair.differences:
                text, _, command = pair.text.rpartition(" → ")
                error = LedgerError(f"{one.target}: {text}", hint=command)
                yield Problem(part="parity", grade=Grade.WRONG, text=text, command=command, error=error)
    yield from _health(one)
    for request in one.waiting:
        yield Problem(
            part="approval",
            grade=Grade.DUE,
            text=f"run {request.run_id} waits for approval since {utc_minute(request.at)}"
            + (f" ({age(request.at, found.at)})" if found else ""),
            command=f"lockstep approve {request.run_id}",
        )
    for each in one.unseen:
        text = f"{each.part} could not be looked at: {each.error.message.splitlines()[0]}"
        grade = Grade.DUE if each.part == "approvals" else Grade.WRONG
        yield Problem(part=each.part, grade=grade, text=text, command=each.error.hint, error=each.error)


def _without_ledger(one: EnvironmentOverview) -> Problem:
    if one.lost is None:
        return Problem(part="files", grade=Grade.DUE, text="no ledger yet", command=f"lockstep init {one.environment}")
    error = ledger_lost(one)
    return Problem(
        part="files",
        grade=Grade.WRONG,
        text=error.message.removeprefix(f"{one.target}: "),
        command=error.hint,
        error=error,
    )


def ledger_lost(one: EnvironmentOverview) -> LedgerError:
    """What is said of a database without a ledger, where a backup of it holds one."""
    return LedgerError(
        f"{one.target}: the ledger is gone: backup {one.lost} holds one. Is this the database that was backed up?",
        hint=f"lockstep doctor {one.environment}",
    )


def _unreadable(error: LockstepError) -> str:
    """Why it could not be read, in one line; of what libpq says the end, since the rest is the address."""
    if not isinstance(error, Unreachable):
        return error.message.splitlines()[0]
    reason = error.reason.splitlines()[0] if error.reason else "no connection"
    return f"cannot be reached: {' '.join(reason.rpartition(' failed: ')[2].split())}"


def _files(one: EnvironmentOverview) -> Iterator[Problem]:
    states = {row.state for row in one.status.rows}
    if not states & (DISAGREEING | WAITING):
        return
    text, _, command = summary(one.environment, one.status.rows).rpartition(" → ")
    wrong = bool(states & DISAGREEING)
    error = LedgerError(f"{one.target}: {text}", hint=command) if wrong else None
    yield Problem(part="files", grade=Grade.WRONG if wrong else Grade.DUE, text=text, command=command, error=error)


def _drift(one: EnvironmentOverview) -> Iterator[Problem]:
    if one.drift is None:
        return
    command = f"lockstep drift {one.environment}"
    if one.drift.verdict is Verdict.DRIFT:
        text = f"drift: {few(drift_labels(one))} changed by hand"
        error = LedgerError(f"{one.target}: {text}", hint=command)
        yield Problem(part="drift", grade=Grade.WRONG, text=text, command=command, error=error)
    elif one.drift.verdict is Verdict.STALE:
        text = "the schema was not recorded after the last run, which was cut off"
        yield Problem(part="drift", grade=Grade.DUE, text=text, command=command)
    elif one.drift.verdict is Verdict.BUSY:
        text = "a run is at work, so its schema was not compared"
        yield Problem(part="drift", grade=Grade.DUE, text=text, command=command)
    elif one.drift.verdict is Verdict.UNRECORDED and any(row.entry is not None for row in one.status.rows):
        text = "its schema is not recorded, so nobody can tell what was changed by hand"
        yield Problem(part="drift", grade=Grade.DUE, text=text, command=command)


def _health(one: EnvironmentOverview) -> Iterator[Problem]:
    worst = [finding for finding in weighty(one) if finding.severity is Severity.CRITICAL]
    other = len(weighty(one)) - len(worst)
    command = f"lockstep health {one.environment}"
    if worst:
        text = f"{len(worst)} critical: {finding_words(worst[0])}"
        error = Unhealthy(f"{one.target}: {text}", hint=command)
        yield Problem(part="health", grade=Grade.WRONG, text=text, command=command, error=error)
    elif other:
        text = f"{count(other, 'warning')}: {finding_words(weighty(one)[0])}"
        yield Problem(part="health", grade=Grade.DUE, text=text, command=command)
    if one.health is not None and one.health.blind:
        text = f"not judged: {few(one.health.blind)}"
        yield Problem(part="health", grade=Grade.DUE, text=text, command=command)


def finding_words(finding: Finding) -> str:
    """Return a finding of health in one line."""
    return finding.text if finding.text.startswith(f"{finding.object} ") else f"{finding.object}: {finding.text}"


# -- what is good --------------------------------------------------------------------------------------------------------


def _good(one: EnvironmentOverview) -> str:
    applied = sum(row.entry is not None for row in one.status.rows)
    parts = [f"in step, {count(applied, 'migration')} applied"]
    if (proof := proof_words(one)) is not None:
        parts.append(proof)
    parts.append("healthy")
    return "; ".join(parts)


def proof_words(one: EnvironmentOverview) -> str | None:
    """Return the newest backup and what proved one, in words."""
    record = one.status.backups
    if record is None:
        return None
    if record.taken_at is None:
        return "no backup"
    words = f"backup of {utc_minute(record.taken_at)}"
    if record.verified_at is None:
        return f"{words}, never verified"
    if not record.ok:
        return f"{words}, FAILED its verification {utc_minute(record.verified_at)} ({record.level})"
    return f"{words}, verified {utc_minute(record.verified_at)} ({record.level})"


NAMED = 3  # of many


def few(labels: Sequence[str]) -> str:
    """Return the first names of many."""
    return ", ".join(labels[:NAMED]) + rest(len(labels))


def rest(count: int) -> str:
    """Return how many are not named."""
    return f" and {count - NAMED} more" if count > NAMED else ""


def count(number: int, word: str) -> str:
    """Return `1 migration`, `3 migrations`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def age(since: datetime, now: datetime) -> str:
    """Return how long something is ago."""
    return format_ms(max(0, round((now - since).total_seconds() * 1_000))) or ""


def exit_code(found: Sequence[Outcome]) -> ExitCode:
    """Return what a run that found this ends with."""
    return max((one.error.exit_code for one in found if one.error is not None), default=ExitCode.DONE)
