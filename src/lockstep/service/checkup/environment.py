"""One environment: its server, the way to it, the role, the ledger, and the programs that its major version needs.

Two sessions at most, both read-only. What follows from an answer is core.setup_rules' to say, or that of the error
which the command in question would raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lockstep.config import Environment, Settings
from lockstep.core.checkup import not_checked, ok, problem, warning
from lockstep.core.counting import counted
from lockstep.core.setup_rules import clock, program_versions, tls
from lockstep.errors import ConfigError, ExitCode, LedgerMissing, LockstepError, ProgramMissing, UsageError
from lockstep.postgres.connection import Session, Target, open_session, stays_local
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.inspection import (
    RoleLook,
    SchemaRights,
    ServerLook,
    bound,
    look_at_role,
    look_at_server,
    quoted,
)
from lockstep.postgres.ledger import read_ledger, refuse_unowned
from lockstep.postgres.programs import find_program, nearest_major
from lockstep.service.checkup.findings import Findings, problem_of
from lockstep.service.project import target_of

CONNECT_TIMEOUT = "5"  # seconds per host

_SERVER = ("TLS", "pooler", "clock", "vanished clients")
_RIGHTS = ("role", "ledger", "schemas", "backup rights", "monitoring")
_PROGRAMS = ("client programs", "server programs")

#: What backups and restores run. psql is for people; it comes with the others.
_CLIENTS = ("pg_dump", "pg_restore", "psql")
_SERVERS = ("postgres", "initdb", "pg_isready")


def check_environment(findings: Findings, settings: Settings, environment: Environment, run: RunInfo) -> None:
    """Check one environment from here. Read-only; waits some seconds at most for each answer."""
    try:
        target = target_of(settings, environment, with_settings=False)
    except ConfigError as error:
        if environment.table.url is not None and not _set(settings, environment):
            # Said under the project, by the variable's name.
            findings.skip(("connection",), "its URL needs a variable that is not set")
        else:
            findings.add(problem_of("connection", error))
        findings.skip((*_SERVER, *_RIGHTS, *_PROGRAMS), "no connection")
        return
    options = {"connect_timeout": CONNECT_TIMEOUT, **target.address.options}
    target = replace(target, address=replace(target.address, options=options))
    session, usable = _open(findings, target, run)
    if session is None:
        findings.skip((*_SERVER, *_RIGHTS, *_PROGRAMS), "no connection")
        return
    try:
        server = _server(findings, session)
        if usable:
            _rights(findings, settings, environment, session, run)
        else:
            findings.skip(_RIGHTS[1:], "the role cannot be taken")
    finally:
        session.close()
    if server is None:
        findings.skip(_PROGRAMS, "the server's version is not known")
        return
    with findings.checking("client programs"):
        _programs(findings, settings, environment, server)


def _set(settings: Settings, environment: Environment) -> bool:
    try:
        settings.url(environment)
    except ConfigError:
        return False
    return True


def _open(findings: Findings, target: Target, run: RunInfo) -> tuple[Session | None, bool]:
    """Connect; where only the configured role is in the way, without it. Second: whether the role could be taken."""
    try:
        return open_session(target, run_id=run.run_id, read_only=True), True
    except UsageError as error:
        if target.role is not None:
            try:
                session = open_session(replace(target, role=None), run_id=run.run_id, read_only=True)
            except LockstepError:
                pass
            else:
                findings.add(problem_of("role", error, target=target.name))
                return session, False
        findings.add(problem_of("connection", error, target=target.name))
    except LockstepError as error:
        findings.add(problem_of("connection", error, target=target.name))
    except Exception as error:
        with findings.checking("connection"):
            raise error
    return None, False


# -- the server --------------------------------------------------------------------------------------------------------


def _server(findings: Findings, session: Session) -> ServerLook | None:
    server: ServerLook | None = None
    target = session.target
    with findings.checking("connection", target=target.name):
        bound(session)
        server = look_at_server(session, stays_here=stays_local(target.address))
    if server is None:
        findings.skip(_SERVER, "the server did not say what it is")
        return None
    where = f"PostgreSQL {server.version} at {target.address.shown}"
    if session.facts.in_recovery:
        text = f"{where}, which is a standby: nothing can be applied"
        findings.add(problem("connection", text, "use the primary's address", ExitCode.USAGE))
    else:
        findings.add(ok("connection", where))
    findings.add(tls(server.encryption))
    findings.add(ok("pooler", "in session mode" if session.facts.pooled else "none"))
    findings.add(clock(server.clock, "the server's"))
    interval = server.check_interval
    if interval == "0":
        text = "the server does not look whether a client is still there: locks may outlive a killed deploy"
        findings.add(warning("vanished clients", text, None))
    else:
        findings.add(ok("vanished clients", f"noticed within {interval} (client_connection_check_interval)"))
    return server


# -- the role ----------------------------------------------------------------------------------------------------------


def _rights(findings: Findings, settings: Settings, environment: Environment, session: Session, run: RunInfo) -> None:
    target = session.target
    role: RoleLook | None = None
    with findings.checking("role", target=target.name):
        wanted = tuple(dict.fromkeys((settings.project.ledger_schema, *settings.project.schemas)))
        role = look_at_role(session, wanted)
        taken = f", taken by {role.login}" if role.login != role.name else ""
        much = ", superuser" if role.superuser else ", passes row level security by" if role.bypasses_rls else ""
        findings.add(ok("role", f"{role.name}{taken}{much}"))
    with findings.checking("ledger", target=target.name):
        _ledger(findings, session, role)
    if role is None:
        findings.skip(("schemas", "monitoring"), "the role is not known")
    else:
        _schemas(findings, session, role, settings.project.schemas)
    with findings.checking("backup rights", target=target.name):
        _backup(findings, settings, environment, target, run)
    if role is not None:
        _monitoring(findings, session, role)


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
    text = f"{role.name} does not see what other sessions run: who is in the way of a deploy is named without its query"
    findings.add(warning("monitoring", text, f"GRANT pg_monitor TO {quoted(session, role.name)}"))


# -- programs ----------------------------------------------------------------------------------------------------------


def _programs(findings: Findings, settings: Settings, environment: Environment, server: ServerLook) -> None:
    from lockstep.service.store import programs_of

    if settings.backup is None:
        findings.skip(_PROGRAMS, "there is no [backup]")
        return
    folder = programs_of(settings)
    _found(findings, "client programs", _CLIENTS, server, folder, needed=environment.protected)
    _found(findings, "server programs", _SERVERS, server, folder, needed=False)


def _found(
    findings: Findings, name: str, wanted: Sequence[str], server: ServerLook, folder: Path | None, *, needed: bool
) -> None:
    programs: list[tuple[str, str, int]] = []
    for program in wanted:
        try:
            found = find_program(program, server.version_num, folder=folder)
        except ProgramMissing as error:
            if program == "psql" and programs:
                continue
            where = "the folder of [backup] programs" if folder else "PATH and the usual places"
            text = f"no {program} {error.major} (the server's major version) in {where}"
            if needed:
                findings.add(problem(name, text, error.hint, error.exit_code))
            else:
                use = "no backup can be taken" if wanted is _CLIENTS else _instead(server, folder)
                findings.add(warning(name, f"{text}: {use}", error.hint))
            return
        programs.append((program, found.version, found.minor))
    shown = tuple(programs) if wanted is _CLIENTS else tuple(programs[:1])
    findings.add(program_versions(name, shown, server.version.split(" ", 1)[0], server.version_num % 10000))


def _instead(server: ServerLook, folder: Path | None) -> str:
    """What a machine without the server programs of the right major version does."""
    try:
        higher = nearest_major(_SERVERS, server.version_num // 10000, folder=folder)
    except ProgramMissing:
        return "no backup can be verified by restoring it, and no plan rehearsed"
    return f"rehearsals and verifications run on PostgreSQL {higher}, which may do things otherwise"
