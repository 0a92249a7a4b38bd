"""What the role of an environment may do, judged by what its login is there for. Read-only.

Who looks, or takes backups, is told what is missing for that, and never offered a right that goes beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.checkup import not_checked, ok, problem, warning
from lockstep.core.counting import counted
from lockstep.core.duties import PAGE, Duty, duty, duty_check, role_check
from lockstep.core.grants import BACKUP, STATUS
from lockstep.errors import ExitCode, LedgerFiltered, LedgerMissing, LockstepError
from lockstep.postgres.connection import Session, Target, stays_local
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.inspection import RoleLook, SchemaRights, look_at_login, look_at_role, quoted
from lockstep.postgres.ledger import read_ledger, refuse_unowned
from lockstep.service.checkup.findings import Findings, problem_of

RIGHTS = ("role", "ledger", "schemas", "backup rights", "monitoring")


def duty_of(settings: Settings, environment: Environment, session: Session) -> Duty:
    """Return what the login is there for. Raises what the server refuses."""
    table = environment.table
    reader, backup = settings.project.ledger_reader or STATUS, table.backup_role or BACKUP
    return duty(
        look_at_login(session, settings.project.ledger_schema, role=table.role, reader=reader, backup_role=backup)
    )


def check_rights(
    findings: Findings, settings: Settings, environment: Environment, session: Session, run: RunInfo
) -> Duty:
    """Check the role of an open session for what its login is there for; return that."""
    target = session.target
    role: RoleLook | None = None
    found = Duty.OTHER  # where it cannot be found out, nothing is offered
    with findings.checking("role", target=target.name):
        wanted = tuple(dict.fromkeys((settings.project.ledger_schema, *settings.project.schemas)))
        role = look_at_role(session, wanted)
        found = duty_of(settings, environment, session)
        findings.add(
            role_check(
                role.name,
                role.login,
                superuser=role.superuser,
                bypasses_rls=role.bypasses_rls,
                local=stays_local(target.address),
                environment=environment.name,
            )
        )
        if (said := duty_check(found)) is not None:
            findings.add(said)
    with findings.checking("ledger", target=target.name):
        if found in (Duty.LOOK, Duty.BACK_UP):
            _readable(findings, settings, session, found)
        else:
            _ledger(findings, session, role)
    if role is None:
        findings.skip(("schemas", "monitoring"), "the role is not known")
    elif found is Duty.APPLY:
        _schemas(findings, session, role, settings.project.schemas)
    elif found is Duty.LOOK:
        _looking(findings, session, role, settings.project.schemas)
    else:
        findings.skip(("schemas",), "this login makes nothing there")
    if found in (Duty.APPLY, Duty.BACK_UP):
        with findings.checking("backup rights", target=target.name):
            _backup(findings, settings, environment, target, run)
    else:
        findings.skip(("backup rights",), "this login takes no backups")
    if role is not None and found in (Duty.APPLY, Duty.LOOK):
        _monitoring(findings, session, role)
    elif role is not None:
        findings.skip(("monitoring",), "this login does not need it")
    return found


# -- the ledger --------------------------------------------------------------------------------------------------------


def _ledger(findings: Findings, session: Session, role: RoleLook | None) -> None:
    target = session.target
    try:
        entries = len(read_ledger(session).entries)
    except LedgerMissing as error:
        rights = next((one for one in role.schemas if one.name == target.ledger_schema), None) if role else None
        if role is not None and rights is not None and not _may_create(role, rights):
            text = f"there is none yet, and {role.name} may not make it in schema {rights.name}"
            findings.add(problem("ledger", text, _grant(session, role, rights), ExitCode.REFUSED))
        else:
            findings.add(warning("ledger", f"there is none yet ({target.ledger})", error.hint))
        return
    refuse_unowned(session)
    findings.add(ok("ledger", f"{target.ledger}, {counted(entries, 'entry', 'entries')}, owned by the role"))


def _readable(findings: Findings, settings: Settings, session: Session, found: Duty) -> None:
    """The ledger for who only reads it: what is missing there is the migrator's to give, by `init`."""
    target = session.target
    init = f"as the migrator: lockstep init {target.environment}"
    try:
        entries = len(read_ledger(session).entries)
    except LedgerMissing:
        findings.add(warning("ledger", f"there is none yet ({target.ledger})", init))
        return
    except (LedgerFiltered, psycopg.errors.InsufficientPrivilege) as error:  # the second: without USAGE on its schema
        if found is Duty.BACK_UP:
            init = f"lockstep doctor --grants {target.environment}  ({PAGE})"
        elif settings.project.ledger_reader is None:
            init = f'write ledger_reader = "{STATUS}" under [project]; then, {init}'
        why = "row level security filters it" if isinstance(error, LedgerFiltered) else "it lacks the rights"
        text = f"{target.ledger} cannot be read by {session.facts.current_user}: {why}"
        findings.add(problem("ledger", text, init, ExitCode.DISAGREES))
        return
    findings.add(ok("ledger", f"{target.ledger}, {counted(entries, 'entry', 'entries')}, readable"))


# -- schemas -----------------------------------------------------------------------------------------------------------


def _schemas(findings: Findings, session: Session, role: RoleLook, names: Sequence[str]) -> None:
    good = []
    for rights in role.schemas:
        if rights.name not in names:
            continue
        if rights.exists and rights.usage and rights.create:
            good.append(rights.name)
        elif not rights.exists and role.creates_schemas:
            text = f"{rights.name} is not there; {role.name} may create it"
            findings.add(warning("schemas", text, "a migration may create it; else correct schemas under [project]"))
        else:
            lacks = "is not there" if not rights.exists else "USAGE" if not rights.usage else "CREATE"
            what = f"lacks {lacks} on it" if rights.exists else f"may not create it ({lacks})"
            text = f"{rights.name}: {role.name} {what}"
            findings.add(problem("schemas", text, _grant(session, role, rights), ExitCode.REFUSED))
    if good:
        findings.add(ok("schemas", f"USAGE and CREATE on {', '.join(good)}"))


def _looking(findings: Findings, session: Session, role: RoleLook, names: Sequence[str]) -> None:
    """The schemas for who only looks: `health` reads there where sequences stand."""
    there = [rights for rights in role.schemas if rights.exists and rights.name in names]
    for rights in there:
        if not rights.usage:
            text = f"{rights.name}: {role.name} lacks USAGE on it, so health does not see where its sequences stand"
            grant = f"GRANT USAGE ON SCHEMA {quoted(session, rights.name)} TO {quoted(session, role.name)}"
            findings.add(warning("schemas", text, grant))
    if good := [rights.name for rights in there if rights.usage]:
        findings.add(ok("schemas", f"USAGE on {', '.join(good)}"))


def _may_create(role: RoleLook, rights: SchemaRights) -> bool:
    return rights.usage and rights.create if rights.exists else role.creates_schemas


def _grant(session: Session, role: RoleLook, rights: SchemaRights) -> str:
    who, schema = quoted(session, role.name), quoted(session, rights.name)
    if rights.exists:
        return f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {who}"
    return f"CREATE SCHEMA {schema} AUTHORIZATION {who}"


def _backup(findings: Findings, settings: Settings, environment: Environment, target: Target, run: RunInfo) -> None:
    from lockstep.service.safeguard import look

    if settings.backup is None:
        findings.add(not_checked("backup rights", "there is no [backup]"))
        return
    try:
        _, left_out = look(settings, target, run)
    except LockstepError as error:
        found = problem_of("backup rights", error, target=target.name)
        if not environment.protected:  # nothing that it needs will fail
            found = warning(found.name, found.text, found.remedy)
        findings.add(found)
        return
    text = "every table and sequence can be read whole"
    if left_out.schemas:
        text += f", but for what is left out: {', '.join(left_out.schemas)}"
    findings.add(ok("backup rights", text))


def _monitoring(findings: Findings, session: Session, role: RoleLook) -> None:
    if role.monitors:
        findings.add(ok("monitoring", "the role sees what other sessions do (pg_monitor)"))
        return
    text = (
        f"{role.name} does not see what other sessions do: who is in the way of a deploy is named, but not whether it is "
        "active or idle in a transaction, nor for how long"
    )
    findings.add(warning("monitoring", text, f"GRANT pg_monitor TO {quoted(session, role.name)}"))
