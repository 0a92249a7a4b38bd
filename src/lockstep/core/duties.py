"""What a login is there for, and what `doctor` says of its role: one that looks is never to be offered more. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lockstep.core.checkup import Check, ok, warning

PAGE = "docs/how-to/roles.md"


class Duty(Enum):
    """What a login is there for, by what it belongs to."""

    APPLY = "apply"
    LOOK = "look"  # the status role
    BACK_UP = "back up"  # the backup role
    OTHER = "other"  # the ledger is there, and is somebody else's: an approver, the application


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who logged in, and what it belongs to."""

    name: str
    superuser: bool
    ledger: bool  # it is there
    owns: bool  # it is the ledger's owner or the environment's `role`, or a member of one of them
    reads: bool  # ledger_reader, or a member of it
    backs_up: bool  # backup_role, or a member of it
    founds: bool  # it may make a ledger where there is none, and is neither of these roles itself


def duty(login: Login) -> Duty:
    """Return what a login is there for. Who may apply often belongs to the other roles as well."""
    if login.superuser or login.owns or (login.founds and not login.ledger):
        return Duty.APPLY
    if login.backs_up:
        return Duty.BACK_UP
    if login.reads:
        return Duty.LOOK
    return Duty.OTHER if login.ledger else Duty.APPLY


_SAID = {
    Duty.LOOK: "this login looks only",
    Duty.BACK_UP: "this login only takes backups",
    Duty.OTHER: "this login does not own the ledger",
}


def duty_check(found: Duty) -> Check | None:
    """Say what a login is not there for; None of one that applies."""
    return ok("duty", f"{_SAID[found]}; to apply, log in as the migrator ({PAGE})") if found in _SAID else None


def role_check(name: str, login: str, *, superuser: bool, bypasses_rls: bool, local: bool, environment: str) -> Check:
    """Say which role it is. A superuser is for a database of one's own machine; elsewhere no duty needs one."""
    taken = f", taken by {login}" if login != name else ""
    much = ", superuser" if superuser else ", passes row level security by" if bypasses_rls else ""
    text = f"{name}{taken}{much}"
    if superuser and not local:
        return warning(
            "role", f"{text}: nothing of Lockstep's needs one", f"lockstep doctor --grants {environment}  ({PAGE})"
        )
    return ok("role", text)
