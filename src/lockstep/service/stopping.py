"""A run that was stopped: its sessions ended wherever some are left, and what became of it written into the audit log.

A process that is told to end does this itself, on its way out (service.worksession). For one that could not, or that
was killed, `end_sql` does it from outside, whenever that is.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.counting import counted
from lockstep.core.ledger import Entry, EntryState
from lockstep.core.migration import label
from lockstep.core.resuming import committed_batches
from lockstep.errors import LockstepError
from lockstep.postgres.audit import Event, Wanted, read_log, write_event
from lockstep.postgres.backends import Ended, end_backends
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ledger import read_ledger
from lockstep.service.project import read_folder, target_of
from lockstep.service.redaction import known_secrets, redact

EVENT = "stop"
OWN = "its own process"
PATIENCE = 10.0  # seconds for sessions to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """How a run was stopped, as far as whoever writes it down knows."""

    how: str  # cancelled, crashed, Ctrl-C, SIGTERM
    by: str  # which process ended it
    under_way: str | None = None  # file name or label of the migration that it was at
    doing: str | None = None  # what else it was at: a step of a deploy, in the orchestrator's words
    was_there: bool = False  # the migration under way was applied when it began: it was being taken back
    sessions: Ended | None = None  # that were ended from outside; None: its own process let go of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What `end_sql` did on one environment."""

    environment: str
    text: str  # for a log, without a secret


def signal_of(error: BaseException) -> str:
    """Return what told a process to end, in words."""
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    number = getattr(error, "signal", None)  # Prefect's own exception for a signal
    if number is None and isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        number = error.code - 128
    if isinstance(number, int):
        with suppress(ValueError):
            return signal.Signals(number).name
    return type(error).__name__


def log_stop(session: Session, run: RunInfo, stopped: Stopped) -> str:
    """Write a `stop` event: how, by whom, and what the ledger says of the run. Returns the outcome in words."""
    entries = read_ledger(session).entries
    outcome = _outcome(entries, run.run_id, stopped)
    details: dict[str, Any] = {"how": stopped.how, "by": stopped.by, "outcome": outcome}
    if stopped.doing is not None:
        details["step"] = stopped.doing
    details["applied"] = sum(one.run_id == run.run_id and one.state is EntryState.APPLIED for one in entries)
    if stopped.sessions is not None:
        details |= {"sessions": stopped.sessions.found, "sessions_left": stopped.sessions.left}
    entry = _entry(entries, stopped.under_way)
    event = Event(
        event=EVENT,
        run_id=run.run_id,
        orchestrator_url=run.orchestrator_url,
        migration_name=entry.name if entry else _file_name(stopped.under_way),
        version=entry.version if entry else None,
        details=details,
    )
    write_event(session, event)
    return outcome


def end_sql(
    settings: Settings,
    run: RunInfo,
    environments: Iterable[Environment],
    *,
    how: str,
    age: float = 0.0,
    under_way: Mapping[str, str] | None = None,
) -> tuple[Told, ...]:
    """End what is left of a run on each environment, and write a `stop` event where it had been at work.

    Safe while the run's process still lives, and long after: sessions that were opened within the last `age` seconds
    (how long ago the run was stopped) belong to a later try of the same run and are let alone. A run whose own process
    has written that it was stopped, and left nothing, is not told of twice, unless somebody cancelled it. `under_way`:
    environment -> what the run was doing there, as the orchestrator knows it. Raises nothing.
    """
    told = []
    labels = _labels(settings)
    for environment in environments:
        try:
            what = (under_way or {}).get(environment.name)
            stopped = Stopped(
                how=how,
                by=f"pid {os.getpid()} on {socket.gethostname()}",
                under_way=what if what in labels else None,
                doing=what if what not in labels else None,
            )
            text = _end_on(settings, run, environment, stopped, age)
        except Exception as error:
            words = error.message if isinstance(error, LockstepError) else f"{type(error).__name__}: {error}"
            text = f"what is left of the run could not be looked at: {redact(words, known_secrets(settings))}"
        if text is not None:
            told.append(Told(environment=environment.name, text=text))
    return tuple(told)


def _labels(settings: Settings) -> frozenset[str]:
    """What migrations are called; nothing where their folder cannot be read."""
    try:
        return frozenset(one.label for one in read_folder(settings).migrations)
    except LockstepError:
        return frozenset()


def _end_on(settings: Settings, run: RunInfo, environment: Environment, stopped: Stopped, age: float) -> str | None:
    target = target_of(settings, environment, with_settings=False)
    name = f"stop/{run.run_id}"
    login = open_session(replace(target, role=None), run_id=name)
    try:
        sessions = end_backends(login, run.run_id, older_than=age, patience=PATIENCE)
    finally:
        login.close()
    session = open_session(target, run_id=name)
    try:
        newest = read_log(session, limit=1, wanted=Wanted(run_id=run.run_id))
        if not sessions.found and not newest and stopped.under_way is None and stopped.doing is None:
            return None  # it was never here
        if not sessions.found and newest and newest[0].event == EVENT and _says_enough(newest[0].details, stopped.how):
            return None
        outcome = log_stop(session, run, replace(stopped, sessions=sessions))
    except psycopg.Error as error:
        return f"{_count(sessions)}; the audit log could not be written (SQLSTATE {error.sqlstate})"
    finally:
        session.close()
    return f"{_count(sessions)}; {outcome}"


def _says_enough(details: Mapping[str, Any], how: str) -> bool:
    """Whether the run's newest row tells already how it was stopped. A cancel looks like any other SIGTERM from inside."""
    return details.get("how") == how or (how == "crashed" and details.get("by") == OWN)


def _count(sessions: Ended) -> str:
    if not sessions.found:
        return "no session was left"
    words = counted(sessions.found, "session was", "sessions were")
    left = f", {sessions.left} of them could not be" if sessions.left else ""
    return f"{words} ended{left}"


# -- what the ledger says ----------------------------------------------------------------------------------------------


def _entry(entries: Iterable[Entry], what: str | None) -> Entry | None:
    """The entry of the migration that was under way."""
    return next((one for one in entries if what is not None and what in {one.name, label(one.name)}), None)


def _file_name(what: str | None) -> str | None:
    return what if what is None or what.endswith(".sql") else f"{what}.sql"


def _outcome(entries: Iterable[Entry], run_id: str, stopped: Stopped) -> str:
    """What became of the migration that was under way, and of those that cannot be one transaction."""
    entries = tuple(entries)
    unfinished = [one for one in entries if one.run_id == run_id and one.state is not EntryState.APPLIED]
    if unfinished:
        return "; ".join(f"{label(one.name)} is unfinished: {_how_far(one)}" for one in unfinished)
    what = stopped.under_way
    if what is None:
        return "no migration was under way"
    entry, name = _entry(entries, what), label(what)
    if entry is None:
        return f"{name} was taken back" if stopped.was_there else f"{name} was rolled back, nothing of it stayed"
    if entry.run_id == run_id:
        return f"{name} is applied"
    return f"{name} is still applied"


def _how_far(entry: Entry) -> str:
    if entry.progress is not None and entry.progress.backfill:
        return f"{committed_batches(entry.progress)} done, which stay"
    return f"{entry.statements_done or 0} of {entry.statements_total or '?'} statements done, which stay"
