"""`doctor --grants`: the SQL for roles with no more rights than Lockstep needs, written for one environment. Read-only."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.grants import Facts, Wanted, assumptions, grants_sql
from lockstep.errors import ConfigError, LockstepError
from lockstep.postgres.connection import Target, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.ownership import read_facts
from lockstep.service.checkup.environment import CONNECT_TIMEOUT
from lockstep.service.project import target_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The script, and what it rests on."""

    environment: str
    sql: str
    assumed: tuple[str, ...]  # what nobody looked up; () where the server said it
    why: str | None = None  # the server was not asked


def grants_of(settings: Settings, environment: Environment, run: RunInfo) -> Grants:
    """Return the SQL for an environment's roles. The server is asked where it can be; nothing is changed.

    Raises ConfigError for a URL that cannot be read; one that needs a variable that is not set is done without.
    """
    try:
        target: Target | None = target_of(settings, environment, with_settings=False)
    except ConfigError:
        if settings.missing_variables(environment):
            target = None
        else:
            raise
    facts, database, why = (
        _asked(settings, target, run) if target else (None, "", "its URL needs a variable that is not set")
    )
    address = target.address if target else None
    wanted = Wanted(
        environment=environment.name,
        shown=address.shown if address else "address not known",
        database=database or (address.database if address else ""),
        login=(address.user if address else "") or os.environ.get("PGUSER", ""),
        role=environment.table.role,
        schemas=tuple(settings.project.schemas),
        ledger_schema=settings.project.ledger_schema,
        reader=settings.project.ledger_reader,
        backup_role=environment.table.backup_role,
        protected=environment.protected,
        approvers=settings.approval.approvers,
        two_person=settings.approval.two_person,
    )
    return Grants(
        environment=environment.name, sql=grants_sql(wanted, facts), assumed=assumptions(wanted, facts), why=why
    )


def _asked(settings: Settings, target: Target, run: RunInfo) -> tuple[Facts | None, str, str | None]:
    """What the server says, its database's name, and why there is no answer."""
    options = {"connect_timeout": CONNECT_TIMEOUT, **target.address.options}
    plain = replace(target, role=None, address=replace(target.address, options=options))
    project = settings.project
    try:
        with closing(open_session(plain, run_id=run.run_id, read_only=True)) as session:
            facts = read_facts(
                session,
                schemas=tuple(dict.fromkeys((project.ledger_schema, *project.schemas))),
                role=target.role,
                ledger_schema=project.ledger_schema,
            )
            return facts, session.connection.info.dbname, None
    except LockstepError as error:
        return None, "", error.message.splitlines()[0]
    except psycopg.Error as error:
        return None, "", f"the server refused the question (SQLSTATE {error.sqlstate})"
