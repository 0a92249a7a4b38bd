"""The three questions of the morning, answered for all environments: in step? proven? healthy?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lockstep.core.health.findings import Severity
from lockstep.core.moments import utc_minute
from lockstep.service.outcome import (
    NAMED,
    Grade,
    Outcome,
    count,
    few,
    finding_words,
    outcome,
    proof_words,
    rest,
    weighty,
)
from lockstep.service.overview import EnvironmentOverview, Overview


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of the three questions of the morning."""

    question: str  # In step?
    word: str  # Yes, Not yet, No, Not known
    text: str

    @property
    def good(self) -> bool:
        return self.word == "Yes"


def answers(found: Overview) -> tuple[Answer, Answer, Answer]:
    """Return whether all environments are in step, proven and healthy."""
    every = {one.environment: outcome(one, found) for one in found.environments}
    return _in_step(found, every), _proven(found), _healthy(found)


# -- inside --------------------------------------------------------------------------------------------------------------


def _in_step(found: Overview, every: Mapping[str, Outcome]) -> Answer:
    step = ("reach", "files", "drift", "parity")
    wrong = [_told(name, one, step, Grade.WRONG) for name, one in every.items()]
    due = [_told(name, one, step, Grade.DUE) for name, one in every.items()]
    if any(wrong):
        return Answer(question="In step?", word="No", text=_listed([text for text in wrong if text]))
    if found.unseen:
        lines = [one.error.message.splitlines()[0] for one in found.unseen]
        return Answer(question="In step?", word="Not known", text=_listed(lines))
    if any(due):
        return Answer(question="In step?", word="Not yet", text=_listed([text for text in due if text]))
    counts = {sum(row.entry is not None for row in one.status.rows) for one in found.environments}
    what = count(counts.pop(), "migration") if len(counts) == 1 else "all migrations"
    if len(found.environments) == 1:
        return Answer(question="In step?", word="Yes", text=f"{what} applied, and nobody changed the schema by hand")
    names = ", ".join(every) if len(every) <= NAMED else f"all {len(every)} environments"
    return Answer(question="In step?", word="Yes", text=f"{names}: {what} applied, and nobody changed a schema by hand")


def _told(name: str, one: Outcome, parts: Sequence[str], grade: Grade) -> str | None:
    first = next((each for each in one.problems if each.part in parts and each.grade is grade), None)
    return None if first is None else first.text if first.text.startswith(f"{name} ") else f"{name}: {first.text}"


def _proven(found: Overview) -> Answer:
    protected = [one for one in found.environments if one.protected]
    if not protected:
        return Answer(question="Proven?", word="Yes", text="no environment is protected, so nothing needs a backup")
    bad, unknown, good = [], [], []
    for one in protected:
        if one.error is not None or one.status.backups is None:
            unknown.append(one.environment)
        elif one.health is None or any(hidden.check == "backup-age" for hidden in one.health.hidden):
            unknown.append(one.environment)  # nobody judged how old they are
        elif any(finding.check == "backup-age" for finding in weighty(one)):
            first = next(finding for finding in weighty(one) if finding.check == "backup-age")
            bad.append(f"{one.environment}: {finding_words(first)}")
        elif one.status.backups.verified_at is None or not one.status.backups.ok:
            bad.append(f"{one.environment}: {proof_words(one)}")
        else:
            good.append(f"{one.environment}: {proof_words(one)}{_rehearsal(one)}")
    if bad:
        return Answer(question="Proven?", word="No", text=_listed(bad))
    if unknown:
        return Answer(
            question="Proven?", word="Not known", text=f"the backups of {few(unknown)} could not be looked up"
        )
    return Answer(question="Proven?", word="Yes", text=_listed(good))


def _rehearsal(one: EnvironmentOverview) -> str:
    if one.rehearsed is None:
        return ""
    return f", last rehearsal {utc_minute(one.rehearsed.at)} ({one.rehearsed.outcome})"


def _healthy(found: Overview) -> Answer:
    critical, unknown, blind, warned = [], [], [], 0
    for one in found.environments:
        worst = [finding for finding in weighty(one) if finding.severity is Severity.CRITICAL]
        warned += len(weighty(one)) - len(worst)
        if worst:
            more = f" and {len(worst) - 1} more" if len(worst) > 1 else ""
            critical.append(f"{one.environment}: {finding_words(worst[0])}{more}")
        elif one.health is None:
            unknown.append(one.environment)
        elif one.health.blind:
            blind.append(f"{one.environment}: not judged: {few(one.health.blind)}")
    if critical:
        return Answer(question="Healthy?", word="No", text=_listed(critical))
    if unknown:
        text = f"{few(unknown)} could not be looked at"
        return Answer(question="Healthy?", word="Not known", text=text)
    if blind:
        return Answer(question="Healthy?", word="Not known", text=_listed(blind))
    if warned:
        return Answer(question="Healthy?", word="Yes", text=f"nothing is critical, {count(warned, 'warning')}")
    return Answer(question="Healthy?", word="Yes", text="nothing is critical, no warnings")


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts[:NAMED]) + rest(len(texts))
