"""The health of a target before and after a run: what is new is told. A convenience with a time limit, never a gate.

Catalog and counters only, read-only; a look that takes too long is given up, and then nothing is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.health.findings import Finding, Severity, divided
from lockstep.core.health.judging import judge
from lockstep.errors import LockstepError
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.health.reading import read_facts
from lockstep.service.health import thresholds
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id

PATIENCE = 1.0  # seconds for a whole look
_PART_MS = 300  # for one part of it
_LISTED = 3


@dataclass(slots=True, kw_only=True)
class Health:
    """What one look found."""

    complete: bool = False  # False: it was given up, or could not be made
    findings: list[Finding] = field(default_factory=list)  # critical ones and warnings
    hidden: frozenset[str] = frozenset()  # ids of checks that could not look
    _session: Session | None = None


def look(settings: Settings, environment: Environment) -> Health:
    """Look at a target's health for a second at most. Never raises."""
    found = Health()
    thread = Thread(target=_look, args=(settings, environment, found), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive() and (session := found._session) is not None:
        with suppress(Exception):  # it may end this very moment
            session.connection.cancel_safe(timeout=0.5)
            session.close()
    return found


def tell_new(settings: Settings, environment: Environment, before: Health, progress: Progress) -> None:
    """Look again, and tell what is there now that was not there before. Never raises."""
    if not before.complete:
        return
    after = look(settings, environment)
    new = fresh(before, after) if after.complete else ()
    for finding in new[:_LISTED]:
        progress.note(
            environment.name, f"new since the run: {finding.severity.value}: {finding.object}: {finding.text}"
        )
    if new:
        more = f" ({len(new) - _LISTED} more)" if len(new) > _LISTED else ""
        progress.note(environment.name, f"lockstep health {environment.name} shows all{more}")


def fresh(before: Health, after: Health) -> tuple[Finding, ...]:
    """Return what only the second look found, worst first. What the first could not see is not new."""
    known = {(one.check, one.object) for one in before.findings}
    new = (one for one in after.findings if (one.check, one.object) not in known and one.check not in before.hidden)
    return tuple(sorted(new, key=lambda one: one.severity.rank))


def _look(settings: Settings, environment: Environment, found: Health) -> None:
    # A broken [health] is the business of `lockstep health`.
    with suppress(psycopg.Error, LockstepError):
        wanted = thresholds(settings)
        target = target_of(settings, environment, with_settings=False)
        session = found._session = open_session(target, run_id=new_run_id(), read_only=True)
        try:
            reading = read_facts(session, timeout_ms=_PART_MS, earlier=lambda: None, backups=False)
        finally:
            with suppress(psycopg.Error):
                session.close()
        kept, _ = divided(judge(reading.facts, wanted, environment.name), wanted.ignore)
        found.findings += _weighty(kept)
        found.hidden = frozenset(one.check for one in reading.hidden)
        found.complete = True


def _weighty(findings: Iterable[Finding]) -> list[Finding]:
    return [one for one in findings if one.severity in (Severity.CRITICAL, Severity.WARNING)]
