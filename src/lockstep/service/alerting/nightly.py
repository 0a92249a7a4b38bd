"""What the scheduled looks found, as alerts: of an overview, and of the proofs of backups. It sends nothing.

Each problem has an incident of its own, whose id says what is wrong where and not how much: numbers and ages change
every night, and an unchanged problem is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from lockstep.config import Settings
from lockstep.core.alert import STATUS, VERIFY_BACKUPS, Alert, incident_id
from lockstep.core.comparison import DISAGREEING
from lockstep.core.health.findings import Finding
from lockstep.core.matrix import words
from lockstep.core.migration import label
from lockstep.errors import LedgerError, LockstepError, Unhealthy
from lockstep.service.alerting.making import Known, of_error, project_of
from lockstep.service.alerting.watching import Watched
from lockstep.service.drifting import Verdict
from lockstep.service.outcome import drift_labels, ledger_lost, weighty
from lockstep.service.overview import EnvironmentOverview, Overview

#: Checks whose object is a session: the same trouble has another pid every night.
_OF_SESSIONS = frozenset({"long-transaction", "idle-in-transaction", "blocked-session"})


def of_overview(settings: Settings, found: Overview, *, run_id: str, url: str | None) -> tuple[Watched, ...]:
    """Return what was found of each environment, and of the project as a whole."""
    whole = [
        _alert(settings, one.error, None, "failed", f"unseen/{one.part}", one.part, run_id, url) for one in found.unseen
    ]
    return (
        Watched(environment=None, alerts=_known(whole), judged=lambda _: True),
        *(_of_environment(settings, one, found, run_id, url) for one in found.environments),
    )


def of_proofs(
    settings: Settings,
    failures: Mapping[str, LockstepError],
    verified: Collection[str],
    *,
    run_id: str,
    url: str | None,
) -> tuple[Watched, ...]:
    """Return which backups do not hold, or could not be verified, and which do."""
    made = [Watched(environment=None, alerts=(), judged=lambda _: True)]
    for name in dict.fromkeys((*failures, *verified)):
        error = failures.get(name)
        alert = (
            _alert(settings, error, name, "failed", "backup", type(error).__name__, run_id, url, source=VERIFY_BACKUPS)
            if error
            else None
        )
        made.append(Watched(environment=name, alerts=_known([alert]), judged=lambda _: True))
    return tuple(made)


# -- inside --------------------------------------------------------------------------------------------------------------


def _of_environment(
    settings: Settings, one: EnvironmentOverview, found: Overview, run_id: str, url: str | None
) -> Watched:
    alerts = [
        _alert(settings, error, one.environment, occasion, about, key, run_id, url)
        for error, occasion, about, key in _problems(one, found)
    ]
    return Watched(environment=one.environment, alerts=_known(alerts), judged=lambda about: _judged(one, found, about))


def _problems(one: EnvironmentOverview, found: Overview) -> Iterator[tuple[LockstepError, str, str, str]]:
    """Yield (what it is, its occasion, what it is about, its key): one per problem."""
    name, status = one.environment, one.status
    if status.error is not None:
        yield status.error, "failed", "reach", type(status.error).__name__
        return
    if one.lost is not None:
        yield ledger_lost(one), "failed", "ledger", "ledger"
    for row in status.rows:
        if status.initialised and row.state in DISAGREEING:
            error = LedgerError(
                f"{one.target}: files and ledger disagree: {label(row.name)} {words(row)}", hint=f"lockstep plan {name}"
            )
            yield error, "failed", "files", f"{row.name} {row.state.value}"
    for drifted in drift_labels(one):
        error = LedgerError(f"{one.target}: {drifted} was changed by hand", hint=f"lockstep drift {name}")
        yield error, "drift", "drift", drifted
    for pair in found.parity:
        if pair.right == name and pair.differences:
            text, _, command = pair.text.rpartition(" → ")
            yield LedgerError(text, hint=command), "drift", f"parity/{pair.left}", pair.left
    for finding in weighty(one):
        yield _unhealthy(one, finding), "unhealthy", f"{finding.severity.value}/{finding.check}", _key(finding)
    for unseen in one.unseen:
        text = f"{one.target}: {unseen.part} could not be looked at: {unseen.error.message}"
        yield LockstepError(text, hint=unseen.error.hint), "failed", f"unseen/{unseen.part}", unseen.part


def _unhealthy(one: EnvironmentOverview, finding: Finding) -> Unhealthy:
    return Unhealthy(
        f"{finding.severity.value}: {finding.object}: {finding.text} ({finding.check})",
        hint=f"lockstep health {one.environment}",
    )


def _key(finding: Finding) -> str:
    return finding.check if finding.check in _OF_SESSIONS else f"{finding.check} {finding.object}"


def _judged(one: EnvironmentOverview, found: Overview, about: str) -> bool:
    """Whether a problem of this kind would have been found, were it there."""
    group, _, rest = about.partition("/")
    if group == "reach":
        return True
    if one.error is not None:
        return False
    drift = one.drift is not None and one.drift.verdict in (Verdict.NONE, Verdict.DRIFT)
    match group:
        case "unseen":
            return True
        case "files" | "ledger":
            return one.status.initialised
        case "drift":
            return drift
        case "parity":
            return any((pair.left, pair.right) == (rest, one.environment) for pair in found.parity)
        case "critical" | "warning":
            return one.health is not None and rest not in {hidden.check for hidden in one.health.hidden}
        case _:
            return drift and one.health is not None


def _alert(
    settings: Settings,
    error: LockstepError,
    environment: str | None,
    occasion: str,
    about: str,
    key: str,
    run_id: str,
    url: str | None,
    *,
    source: str = STATUS,
) -> Alert | None:
    known = Known(environment=environment, run_id=run_id, url=url, source=source, occasion=occasion)
    alert = of_error(settings, error, known)
    if alert is None:
        return None
    # Its severity is not part of the id: what gets worse is the same problem, told again.
    group = "health" if occasion == "unhealthy" else about.partition("/")[0]
    incident = incident_id(project_of(settings), environment, source, group, key)
    return replace(alert, incident=incident, about=about)


def _known(alerts: Collection[Alert | None]) -> tuple[Alert, ...]:
    """Leave out what is nobody's trouble, and keep one per incident."""
    return tuple({alert.incident: alert for alert in alerts if alert is not None}.values())
