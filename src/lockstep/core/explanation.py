"""One run explained, for whoever is on call: what ran and what did not, why it stopped, what is true now, what to do.

Values and the rule for the next command. Pure: rows, states and documents are read elsewhere. No field holds a secret or
a row's content.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lockstep.core.rehearsal.proof import WayBack


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One migration that the run applied, or took back."""

    label: str
    ms: int | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why the run stopped at one environment, as its audit log has it."""

    event: str  # fail, refuse, check, reject, expire, withdraw, …
    what: str  # in one line
    at: datetime
    label: str | None = None  # migration
    file: str | None = None
    line: int | None = None
    sqlstate: str | None = None
    kind: str | None = None  # class of the error that a gate raised
    count: int = 1  # tries of the run that ended so


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An approval that the run asked for, and how that stands."""

    at: datetime
    by: str
    standing: str  # waiting, approved, rejected, expired, withdrawn
    answered_by: str | None = None
    answered_at: datetime | None = None
    reason: str | None = None
    expires_at: datetime | None = None
    how: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One environment: what the run did there, and what is true there now."""

    environment: str
    target: str | None  # shown name
    error: str | None = None  # why it could not be looked at; then nothing else is known
    touched: bool = False  # its audit log knows the run
    applied: tuple[Done, ...] = ()
    reverted: tuple[Done, ...] = ()
    rolled_back: str | None = None  # label of the migration that failed and left nothing
    begun: tuple[str, ...] = ()  # of this run, outside of a transaction, not finished: `006-x failed 2/3`
    not_started: tuple[str, ...] = ()  # pending now
    stop: Stop | None = None
    asked: Asked | None = None
    overrides: tuple[str, ...] = ()  # gates that somebody went on against, with the reason
    backup: str | None = None  # id
    rehearsal: str | None = None  # its outcome
    ledger: str = ""  # what the environment is now, in one line
    holder: str | None = None  # of the lock
    sessions: tuple[str, ...] = ()  # of this run, on the server now
    ways_back: tuple[WayBack, ...] = ()
    measured: str = ""  # what the times of the ways back are from, in words; "" for not at all

    @property
    def changed(self) -> bool:
        """Whether the run left something there that could be taken back."""
        return bool(self.applied or self.begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestrated:
    """The run as Prefect has it."""

    id: str
    name: str
    state: str  # Running, Suspended, Failed, …
    kind: str  # RUNNING, PAUSED, FAILED, …
    message: str | None
    at: datetime | None  # since when it is in that state
    deployment: bool  # a worker carries it out
    reason: str | None = None  # parameter
    asked_for: tuple[str, ...] = ()  # environments, as its parameters name them; () for all

    @property
    def alive(self) -> bool:
        return self.kind in ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")

    @property
    def waits(self) -> bool:
        return self.kind == "PAUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All of it."""

    run_id: str
    newest: bool  # nobody named a run: it is the newest one
    places: tuple[Place, ...]  # in promotion order
    orchestrated: Orchestrated | None
    url: str | None  # of the run in the UI
    by: tuple[str, ...]  # who started it, as far as the audit log can say
    unseen: tuple[str, ...]  # what could not be looked at, and why
    contacts: tuple[str, ...] = ()
    runbook: str | None = None

    @property
    def stopped_at(self) -> Place | None:
        """The environment that the run stopped at."""
        return next((one for one in reversed(self.places) if one.stop is not None), None)

    @property
    def waiting_at(self) -> Place | None:
        return next((one for one in self.places if one.asked is not None and one.asked.standing == "waiting"), None)

    @property
    def at_work(self) -> bool:
        """Whether something of it is still going on: a session on a server, or Prefect says so."""
        sessions = any(one.sessions for one in self.places)
        return sessions or (self.orchestrated is not None and self.orchestrated.alive)

    def untouched(self, place: Place) -> str:
        """Say why the run did nothing to an environment, as far as that can be told."""
        asked = self.orchestrated.asked_for if self.orchestrated else ()
        if asked and place.environment not in asked:
            return "nothing: the run was not asked to"
        later = self.places[self.places.index(place) + 1 :]
        stopped = self.stopped_at is not None or self.at_work or self.waiting_at is not None
        ended_badly = self.orchestrated is not None and self.orchestrated.kind in ("FAILED", "CRASHED", "CANCELLED")
        if (stopped or ended_badly) and not any(one.touched for one in later):
            return "nothing: the run did not come to it"
        return "nothing: it had nothing to do there" + ("" if self.orchestrated else ", or was not asked to")

    @property
    def verb(self) -> str:
        """What goes on with it."""
        if any(one.reverted for one in self.places) and not any(one.applied for one in self.places):
            return "revert"
        return "deploy" if self.url else "sync"


#: What to do about a run that a gate stopped, by the class of its error.
_AFTER_REFUSAL = {
    "RehearsalRefused": "lockstep rehearse {name}, then change what it names and: lockstep {verb}",
    "RevertNotProven": "mend the down script or restore a backup; lockstep history {name} --run {run} has the reasons",
    "DriftFound": "lockstep drift {name}",
    "Held": "lockstep status {name}: mend the held file, or let it in by name: lockstep {verb} {name} --include VERSION",
    "StalePlan": "lockstep plan {name}, then: lockstep {verb} {name}",
    "BackupFailed": "lockstep doctor, then: lockstep {verb} {name}",
}


def next_command(found: Explanation) -> str:
    """Return what to do next, in one line."""
    run = found.run_id
    if (place := found.waiting_at) is not None:
        return f"lockstep approve {run}, or: lockstep reject {run} --reason …"
    if found.at_work:
        stop = f"prefect flow-run cancel {found.orchestrated.id}" if found.orchestrated else "Ctrl-C where it runs"
        return f"it is still at work: wait, and look again (lockstep explain {run}); to stop it: {stop}"
    place = found.stopped_at
    if place is None:
        begun = next((one for one in found.places if one.begun), None)
        if begun is not None:
            return f"lockstep {found.verb} {begun.environment} goes on where it stopped"
        pending = next((one for one in found.places if one.touched and one.not_started), None)
        if pending is not None and not _ended_well(found):
            return f"nothing is half done; lockstep {found.verb} does the rest"
        unread = next((one for one in found.places if one.error is not None), None)
        return f"lockstep status {unread.environment}, once it can be reached" if unread else "nothing: it ended well"
    return _after_stop(found, place)


def _ended_well(found: Explanation) -> bool:
    return found.orchestrated is not None and found.orchestrated.kind == "COMPLETED"


def _after_stop(found: Explanation, place: Place) -> str:
    stop, name = place.stop, place.environment
    assert stop is not None
    if stop.event == "fail":
        file = stop.file or stop.label or "the file"
        back = f"mend {file} (it may change: it is not applied), then: lockstep {found.verb}"
        return f"lockstep revert {name} again, once {file} is mended" if found.verb == "revert" else back
    if stop.event == "check":
        return f"look at the application first; the ways back of {name} are above"
    if stop.event in ("reject", "expire", "withdraw"):
        return f"lockstep {found.verb} {name} asks anew"
    if stop.event == "stop":
        return f"nothing waits for anybody: lockstep {found.verb} {name} goes on with what is left"
    if stop.kind == "LockHeld":
        return f"lockstep {found.verb} {name}, once the other run has ended"
    text = _AFTER_REFUSAL.get(stop.kind or "", "lockstep {verb} {name}, once that is settled")
    return text.format(name=name, verb=found.verb, run=found.run_id)
