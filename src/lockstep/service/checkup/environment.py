"""One environment: its server, the way to it, and the programs that its major version needs.

Two sessions at most, both read-only. What follows from an answer is core.setup_rules' to say, or that of the error
which the command in question would raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.checkup import ok, problem, warning
from lockstep.core.duties import Duty
from lockstep.core.setup_rules import clock, program_versions, tls
from lockstep.errors import ConfigError, ExitCode, LockstepError, ProgramMissing, UsageError
from lockstep.postgres.connection import Session, Target, open_session, stays_local
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.inspection import ServerLook, bound, look_at_server
from lockstep.postgres.programs import find_program, nearest_major
from lockstep.service.checkup.findings import Findings, problem_of
from lockstep.service.checkup.rights import RIGHTS, check_rights, duty_of
from lockstep.service.project import target_of

CONNECT_TIMEOUT = "5"  # seconds per host

_SERVER = ("TLS", "pooler", "clock", "vanished clients")
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
        findings.skip((*_SERVER, *RIGHTS, *_PROGRAMS), "no connection")
        return
    options = {"connect_timeout": CONNECT_TIMEOUT, **target.address.options}
    target = replace(target, address=replace(target.address, options=options))
    session, usable = _open(findings, settings, environment, target, run)
    if session is None:
        findings.skip((*_SERVER, *RIGHTS, *_PROGRAMS), "no connection")
        return
    duty = Duty.APPLY
    try:
        server = _server(findings, session)
        if usable:
            duty = check_rights(findings, settings, environment, session, run)
        else:
            findings.skip(RIGHTS[1:], "the role cannot be taken")
    finally:
        session.close()
    if server is None:
        findings.skip(_PROGRAMS, "the server's version is not known")
        return
    with findings.checking("client programs"):
        _programs(findings, settings, server, needed=environment.protected and duty is not Duty.LOOK)


def _set(settings: Settings, environment: Environment) -> bool:
    try:
        settings.url(environment)
    except ConfigError:
        return False
    return True


def _open(
    findings: Findings, settings: Settings, environment: Environment, target: Target, run: RunInfo
) -> tuple[Session | None, bool]:
    """Connect; where only the configured role is in the way, without it. Second: whether the rights can be looked at.

    They can without that role too, by a login whose duty does not need it.
    """
    try:
        return open_session(target, run_id=run.run_id, read_only=True), True
    except UsageError as error:
        if target.role is not None:
            try:
                session = open_session(replace(target, role=None), run_id=run.run_id, read_only=True)
            except LockstepError:
                pass
            else:
                try:
                    needs_it = duty_of(settings, environment, session) not in (Duty.LOOK, Duty.BACK_UP)
                except (LockstepError, psycopg.Error):
                    needs_it = True
                if needs_it:
                    findings.add(problem_of("role", error, target=target.name))
                return session, not needs_it
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


# -- programs ----------------------------------------------------------------------------------------------------------


def _programs(findings: Findings, settings: Settings, server: ServerLook, *, needed: bool) -> None:
    from lockstep.service.store import programs_of

    if settings.backup is None:
        findings.skip(_PROGRAMS, "there is no [backup]")
        return
    folder = programs_of(settings)
    _found(findings, "client programs", _CLIENTS, server, folder, needed=needed)
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
