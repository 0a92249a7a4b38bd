"""An alert as a document: what happened where, in what state things are, and what to do next. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

#: What noticed it. Only a good run of the same kind says that it is over.
DEPLOY, STATUS, VERIFY_BACKUPS = "deploy", "status", "verify-backups"

#: Occasions that can be over. That a run waited, or that nobody approved it, is no trouble to recover from.
LASTING = frozenset({"failed", "crashed", "drift", "unhealthy", "late"})


def source_of(flow: str) -> str:
    """Return what a flow notices things as. What changes a database (deploy, revert, restore) is one source."""
    return flow if flow in (STATUS, VERIFY_BACKUPS) else DEPLOY


def incident_id(*parts: str | None) -> str:
    """Return the id of an incident: the same for the same parts, on any machine."""
    text = "\0".join(part or "" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that a person should know. No field holds a secret, a connection string, or a row's content."""

    occasion: str  # of settings.OCCASIONS
    incident: str  # the same problem has the same one: nothing arrives twice under it
    at: datetime
    environment: str | None
    headline: str  # one line: the subject
    run_id: str | None = None
    url: str | None = None  # of the run in the UI
    step: str | None = None  # backup, rehearse, 005-your-new-feature, …
    migration: str | None = None
    file: str | None = None
    line: int | None = None
    sqlstate: str | None = None
    message: str = ""  # the error as the command line prints it
    state: str = ""  # what state things are in: done, rolled back, begun
    ways_back: tuple[str, ...] = ()  # with their measured times
    next_command: str | None = None
    contacts: tuple[str, ...] = ()
    runbook: str | None = None
    repeats: int = 0  # how often it happened before without being told
    source: str = DEPLOY  # what noticed it: deploy, status, verify-backups
    what: tuple[str, ...] = ()  # that is to be approved: files, in order
    digests: tuple[str, ...] = ()  # of plan and changes, as they are to be approved
    about: str = ""  # of what is looked at again and again: reach, files/…, drift/…, critical/CHECK, …
