"""The SQL of `doctor --grants`, attacked: odd names, roles that are members of one another, roles that are the same."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lockstep.core.grammar import parse
from lockstep.core.grants import Facts, Owner, Wanted, grants_sql
from lockstep.postgres.throwaway import ThrowawayServer
from tests.project import Project

ROLES = ("attacked_login", "attacked_owner", "attacked_app", "lockstep_status", "lockstep_backup", "lockstep_migrator")
WANTED = Wanted(
    environment="prod", shown="db/app", database="app", login="deploy", role=None, schemas=("public",),
    ledger_schema="public", reader=None, backup_role=None, protected=True, approvers=None, two_person=False,
)  # fmt: skip
EVIL = "x\"\nALTER ROLE evil SUPERUSER;\r\n$lockstep$ %s %I ' \\"


@pytest.fixture
def psql(server: ThrowawayServer, project: Project, pg_bin: Path) -> Iterator[Callable[[str], str]]:
    database = project.urls["dev"].rsplit("/", 1)[1]

    def run(text: str) -> str:
        command = [str(pg_bin / "psql"), "-X", "-q", "-d", server.url(database)]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        return done.stderr

    yield run
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        for name in ROLES:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                role = sql.Identifier(name)
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        for name in ROLES:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("known", [True, False])
def test_no_name_ends_a_comment_or_a_literal(known: bool) -> None:
    """Whatever is odd about a name stays within its quotes: every line that is no comment is one of ours."""
    facts = Facts(
        version=170000, version_text="17.1", login=EVIL, login_is_superuser=False, schemas=(EVIL,),
        owners=(Owner(name=EVIL + "o", superuser=True, objects=1, example=EVIL),), unread=1, filtered=(EVIL,),
        extensions=(EVIL,), ledger=True,
    )  # fmt: skip
    text = grants_sql(
        replace(
            WANTED, environment=EVIL, shown=EVIL, database=EVIL, login=EVIL, role=EVIL + "r", schemas=(EVIL,),
            ledger_schema=EVIL, reader=EVIL + "s", backup_role=EVIL + "b", approvers=EVIL + "a",
        ),
        facts if known else None,
    )  # fmt: skip
    statements = [one.stmt for one in parse(re.sub(r"(?m)^\\set .*$", "", text)).stmts]
    changed = [one.alter_role_stmt.role.rolename for one in statements if one.HasField("alter_role_stmt")]
    assert changed == [EVIL + "b"], "of the backup role alone"


@pytest.mark.parametrize("login", [True, False])
def test_the_role_of_a_person_is_given_to_nobody_unread(login: bool) -> None:
    facts = Facts(
        version=170000, version_text="17.1", login="deploy", login_is_superuser=False, schemas=("public",),
        owners=(Owner(name="ann", superuser=False, objects=2, example="TABLE public.t", login=login),), unread=0,
        filtered=(), extensions=(), ledger=True,
    )  # fmt: skip
    lines = grants_sql(WANTED, facts).splitlines()
    assert ('GRANT "ann" TO "deploy";' in lines) is not login
    assert ('-- GRANT "ann" TO "deploy";' in lines) is login
    assert any("ALTER TABLE public.t OWNER TO" in line for line in lines) is login


@pytest.mark.parametrize("role", ["we%ird", "a%Ib", "100%"])
def test_a_percent_sign_in_a_role_is_no_format(psql: Callable[[str], str], role: str) -> None:
    """Where nobody knows the database's name, the server fills it in."""
    text = grants_sql(replace(WANTED, database="", login=role), None)
    try:
        assert psql(text) == ""
    finally:
        psql(f'DROP OWNED BY "{role}"; DROP ROLE "{role}";')


def of(project: Project, psql: Callable[[str], str]) -> str:
    printed = project.run("doctor", "--grants", "dev")
    assert printed.code == 0, printed.err
    for _ in range(2):
        assert psql(printed.out) == ""
    return printed.out


def as_login(server: ThrowawayServer, project: Project) -> None:
    database = project.urls["dev"].rsplit("/", 1)[1]
    project.urls["dev"] = server.url(database, user="attacked_login", password="pw")


def test_who_takes_a_role_for_the_first_time_owned_everything_before(
    server: ThrowawayServer, project: Project, psql: Callable[[str], str]
) -> None:
    """`role` is new in the configuration: the login owns what is there, and a role that it is a member of cannot be its member."""
    project.query("CREATE ROLE attacked_login LOGIN PASSWORD 'pw'; GRANT ALL ON SCHEMA public TO attacked_login")
    project.query("SET ROLE attacked_login; CREATE TABLE public.old (id int)")
    project.configure(dev='role = "attacked_owner"')
    as_login(server, project)
    text = of(project, psql)
    assert 'TABLE public.old OWNER TO "attacked_owner"' in text


def test_an_owner_that_is_a_member_of_the_migrator_is_handed_over(
    server: ThrowawayServer, project: Project, psql: Callable[[str], str]
) -> None:
    project.query(
        "CREATE ROLE attacked_login LOGIN PASSWORD 'pw'; CREATE ROLE attacked_app IN ROLE attacked_login;"
        "GRANT ALL ON SCHEMA public TO attacked_app; SET ROLE attacked_app; CREATE TABLE public.old (id int)"
    )
    as_login(server, project)
    text = of(project, psql)
    assert 'GRANT "attacked_app" TO' not in text


@pytest.mark.parametrize(
    "body", ['backup_role = "attacked_login"', 'role = "attacked_owner"\nbackup_role = "attacked_owner"']
)
def test_a_role_for_two_things_is_granted_to_itself_nowhere(
    server: ThrowawayServer, project: Project, psql: Callable[[str], str], body: str
) -> None:
    project.query("CREATE ROLE attacked_login LOGIN PASSWORD 'pw'; CREATE ROLE attacked_owner")
    project.query("GRANT attacked_owner TO attacked_login")
    project.configure(dev=body)
    as_login(server, project)
    of(project, psql)


def test_types_of_others_are_named_as_well(
    server: ThrowawayServer, project: Project, psql: Callable[[str], str]
) -> None:
    """ALTER TYPE … ADD VALUE is for the type's owner."""
    project.query(
        "CREATE ROLE attacked_login LOGIN PASSWORD 'pw'; CREATE ROLE attacked_app; GRANT ALL ON SCHEMA public TO attacked_app;"
        "SET ROLE attacked_app; CREATE TYPE public.mood AS ENUM ('sad')"
    )
    as_login(server, project)
    assert 'GRANT "attacked_app" TO "attacked_login";' in of(project, psql)
    project.run("init")
    project.write("001-t.sql", "ALTER TYPE public.mood ADD VALUE 'glad';")
    done = project.run("sync")
    assert done.code == 0, done.err
