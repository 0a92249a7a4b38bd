"""Approval in a real audit log: asked, answered, refused, settled. No backup is needed for that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lockstep.core.approval import Approval, How, Standing
from lockstep.errors import ApprovalRefused, ExitCode, NotApproved, RunWaits
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.approval import gate
from lockstep.service.approval.gate import Wanted
from lockstep.service.approval.records import write_answer
from lockstep.service.approval.settling import settle_open
from lockstep.service.progress import Silent
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id
from tests.integration.test_ledger import role
from tests.project import Project


@pytest.fixture
def prod(tmp_path: Path, new_database: Callable[[], str]) -> Project:
    """A project of one protected environment whose ledger is made. Its bucket is never asked."""
    (tmp_path / "migrations").mkdir()
    project = Project(folder=tmp_path, urls={"prod": new_database()})
    configure(project)
    assert project.run("init").code == 0
    return project


def configure(prod: Project, approval: str = "", environment: str = "") -> None:
    prod.toml = f'[backup]\nbucket = "s3://nowhere/team"\n\n[approval]\n{approval}\n'
    prod.configure(prod=f"protected = true\n{environment}")


def wanted(**changes: Any) -> Wanted:
    return Wanted(**{
        "target": "prod (here)", "plan_digest": "1f3a9c" + "0" * 58, "change_digest": "c" * 64, "what": ("001-a.sql",),
        "headline": "passed: revert proven", "backup": "b1", **changes,
    })  # fmt: skip


def ask(prod: Project, run_id: str | None = None, attempt: int = 1, **changes: Any) -> Approval:
    run = RunInfo(run_id=run_id or new_run_id())
    return gate.ask(prod.settings(), prod.environment("prod"), run, wanted(**changes), Silent(), attempt=attempt)


def answer(prod: Project, asked: Approval, how: How, approve: bool = True) -> Approval:
    return gate.answer(
        prod.settings(), prod.environment("prod"), RunInfo(run_id=new_run_id()), asked,
        approve=approve, reason=None, how=how,
    )  # fmt: skip


def events(prod: Project) -> list[str]:
    rows = prod.query("SELECT event FROM schema_migrations_log WHERE event <> 'init' ORDER BY id", "prod")
    return [row[0] for row in rows]


def chain_holds(prod: Project) -> bool:
    """Whether the audit log verifies; without a bucket there are no backups to compare its ends with."""
    prod.toml = ""
    prod.configure(prod="protected = false")
    return prod.run("history", "prod", "--verify").code == 0


@contextmanager
def waiting(prod: Project, asked: Approval) -> Iterator[list[Approval]]:
    """Wait for it in a thread, as a run in the foreground does; what came of it is there after the block."""
    settings, found = prod.settings(), []
    run = RunInfo(run_id=asked.request.run_id)

    def wait() -> None:
        found.append(gate.wait(settings, settings.environment("prod"), run, asked, Silent()))

    thread = threading.Thread(target=wait)
    thread.start()
    yield found
    thread.join(timeout=60)
    assert found, "it still waits"


def test_status_says_what_waits_since_when_and_how_to_answer(prod: Project) -> None:
    asked = ask(prod)
    run = asked.request.run_id
    done = prod.run("status")
    assert done.code == 0 and f"prod: run {run} waits for approval since today " in done.out
    assert f"  → lockstep approve {run}, or: lockstep reject {run} --reason …" in done.out
    assert "prod rehearsal: none recorded" in done.out and "prod backup: none recorded" in done.out
    (one,) = prod.run("status", "--json").document["environments"][0]["waiting"]
    assert (one["run_id"], one["migrations"], one["approve"]) == (run, ["001-a.sql"], f"lockstep approve {run}")
    answer(prod, asked, How.COMMAND, approve=False)
    assert "waits" not in prod.run("status").out

    configure(prod, "two_person = true")
    two = ask(prod)
    answering, request = RunInfo(run_id=new_run_id()), two.request
    with closing(open_session(target_of(prod.settings(), prod.environment("prod")), run_id="r")) as session:
        write_answer(session, answering, request, Standing.APPROVED, how=How.COMMAND, by="me", reason=None)
    # A yes of the run's own role does not count, so it waits on.
    assert f"run {two.request.run_id} waits" in prod.run("status").out


def test_a_named_run_is_approved_and_goes_on_and_a_second_approval_does_no_harm(prod: Project) -> None:
    asked = ask(prod)
    run_id = asked.request.run_id
    with waiting(prod, asked) as found:
        done = prod.run("approve", run_id, "--plan", "1F3A9C", "--reason", "OPS-7")
    assert done.code == 0, done.err
    assert "001-a.sql" in done.err and "passed: revert proven" in done.err and "1f3a9c000000" in done.err
    assert found[0].standing is Standing.APPROVED and found[0].answer is not None
    assert found[0].answer.reason == "OPS-7" and found[0].answer.how is How.COMMAND
    gate.pass_on("prod", "prod", found[0], again="sync")

    again = prod.run("approve", run_id, "--json")
    assert again.code == 0 and again.document["answers"][0]["standing"] == "approved", again
    late = prod.run("reject", run_id, "--reason", "too late")
    assert late.code == 7 and "approved already by" in late.err
    assert events(prod) == ["ask", "approve"]
    assert chain_holds(prod)


def test_a_rejected_run_ends_with_the_reason_and_cannot_be_approved_any_more(prod: Project) -> None:
    asked = ask(prod)
    with waiting(prod, asked) as found:
        assert prod.run("reject", "--reason", "not before the weekend").code == 0  # the only one that waits
    with pytest.raises(NotApproved, match=r"rejected by .*: not before the weekend") as refused:
        gate.pass_on("prod", "prod", found[0], again="sync")
    assert refused.value.exit_code is ExitCode.REFUSED
    assert prod.run("approve", asked.request.run_id).code == 7
    assert ask(prod, asked.request.run_id, attempt=2).standing is Standing.WAITING  # a retry asks anew
    assert events(prod) == ["ask", "reject", "ask"]


def test_a_request_expires_and_that_is_logged_by_whoever_looks(prod: Project) -> None:
    configure(prod, 'expires = "100ms"')
    asked = ask(prod)
    time.sleep(0.2)
    late = prod.run("approve", asked.request.run_id)
    assert (late.code, "is expired already" in late.err) == (7, True), late
    settle_open(prod.settings(), prod.environment("prod"), RunInfo(run_id=new_run_id()), Silent())
    assert events(prod) == ["ask", "expire"]
    with waiting(prod, asked) as found:
        pass
    with pytest.raises(NotApproved, match="expired"):
        gate.pass_on("prod", "prod", found[0], again="sync")
    assert events(prod) == ["ask", "expire"]


def test_what_is_not_there_is_a_usage_error(prod: Project) -> None:
    assert prod.run("approve", "20200101-000000-abcd").code == 2
    assert prod.run("approve", "--yes").code == 2
    ask(prod)
    nobody = prod.run("approve")  # no terminal, no name
    assert nobody.code == 2 and "name the run" in nobody.err
    assert prod.run("approve", "prod", "--yes").code == 0  # an environment alone


def test_another_plan_is_not_approved(prod: Project) -> None:
    asked = ask(prod)
    other = prod.run("approve", asked.request.run_id, "--plan", "2f3a9c")
    assert other.code == 7 and "which is not 2f3a9c" in other.err
    assert events(prod) == ["ask"]


def test_nothing_is_approved_after_the_ledger_moved(prod: Project) -> None:
    asked = ask(prod)
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    moved = prod.run("approve", asked.request.run_id)
    assert moved.code == 7 and "baseline" in moved.err
    assert events(prod)[-1] == "baseline"


def test_nothing_is_approved_after_the_live_schema_was_changed(prod: Project) -> None:
    from lockstep.postgres.fingerprint import read_token
    from lockstep.service.approval.settling import session_of

    session = session_of(prod.settings(), prod.environment("prod"), RunInfo(run_id=new_run_id()))
    asked = ask(prod, schema_token=read_token(session))
    session.close()
    prod.query("CREATE TABLE by_hand (id int)", "prod")
    moved = prod.run("approve", asked.request.run_id)
    assert moved.code == 7 and "lockstep drift prod" in moved.err
    assert events(prod) == ["ask"]


def test_an_approval_holds_for_a_retry_with_the_same_changes_alone(prod: Project) -> None:
    asked = ask(prod)
    answer(prod, asked, How.PROMPT)
    again = ask(prod, asked.request.run_id, attempt=2, backup="b2")
    assert (again.standing, again.request.row) == (Standing.APPROVED, asked.request.row)
    other = ask(prod, asked.request.run_id, attempt=2, change_digest="d" * 64)
    assert other.standing is Standing.WAITING
    assert ask(prod, asked.request.run_id, attempt=2, plan_digest="e" * 64).standing is Standing.WAITING
    assert events(prod) == ["ask", "approve", "ask", "withdraw", "ask"]  # the run waits for one thing at a time


# -- two people ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(prod: Project, server: ThrowawayServer, new_database: Callable[[], str]) -> Callable[[str], str]:
    """`prod` needs two people; the fixture returns the URL of a login role, by its name, that may answer."""
    prod.urls["prod"] = new_database()  # its ledger belongs to the role of the environment
    database = prod.urls["prod"].rsplit("/", 1)[1]
    role(server, database, "approvers_of_prod")
    role(server, database, "owner_of_prod")
    configure(prod, 'two_person = true\napprovers = "approvers_of_prod"', 'role = "owner_of_prod"')
    prod.query("GRANT CREATE ON SCHEMA public TO owner_of_prod", "prod")
    assert prod.run("init", "prod").code == 0
    return lambda name: role(server, database, name, f"GRANT approvers_of_prod TO {name}")


def test_two_people_are_two_database_roles(prod: Project, two: Callable[[str], str]) -> None:
    run_id = new_run_id()
    own, bob, carol = prod.urls["prod"], two("bob"), two("carol")
    prod.urls["prod"] = carol  # she starts it: a worker runs it under another role
    gate.note_start(prod.settings(), prod.environment("prod"), RunInfo(run_id=run_id))
    prod.urls["prod"] = own
    asked = ask(prod, run_id)

    for how in (How.PROMPT, How.FORM):
        with pytest.raises(ApprovalRefused, match="nobody can vouch"):
            answer(prod, asked, how)
    same = prod.run("approve", run_id)
    assert same.code == 7 and "postgres is the database role that the run works with" in same.err, same
    prod.urls["prod"] = carol
    starter = prod.run("approve", run_id)
    assert starter.code == 7 and "carol is the database role that the run was started with" in starter.err, starter
    # Nor does it help to set two_person aside in one's own lockstep.toml.
    configure(prod, "two_person = false", 'role = "owner_of_prod"')
    assert prod.run("approve", run_id).code == 7
    prod.urls["prod"] = bob
    with waiting_at(prod, own, asked) as found:
        done = prod.run("approve", run_id)
    assert done.code == 0 and "(bob)" in done.out, done
    assert found[0].standing is Standing.APPROVED
    prod.urls["prod"] = own
    assert events(prod) == ["begin", "ask", "approve"]
    assert chain_holds(prod)


@contextmanager
def waiting_at(prod: Project, url: str, asked: Approval) -> Iterator[list[Approval]]:
    mine, prod.urls["prod"] = prod.urls["prod"], url
    with waiting(prod, asked) as found:
        prod.urls["prod"] = mine
        yield found


def test_an_approver_can_write_answers_under_their_own_name_and_nothing_else(
    prod: Project, two: Callable[[str], str]
) -> None:
    row = "INSERT INTO schema_migrations_log (event{}) VALUES ('{}'{})"
    with psycopg.connect(two("bob"), autocommit=True) as bob:
        bob.execute(row.format("", "approve", "").encode())
        for statement in (
            row.format(", actor", "approve", ", 'carol'"),
            row.format(", at", "approve", ", '2020-01-01'"),
            row.format("", "apply", ""),
            row.format("", "ask", ""),
            "UPDATE schema_migrations_log SET actor = 'carol'",
            "DELETE FROM schema_migrations",
            "CREATE TABLE by_hand (id int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                bob.execute(statement.encode())
    assert chain_holds(prod)


@pytest.mark.parametrize(
    "details",
    ["[]", '{"ask": "x"}', '{"ask": {}}', '{"ask": ROW, "how": "by mail"}', '{"ask": ROW, "plan": 1, "changes": []}'],
)
def test_a_row_that_is_no_answer_of_ours_neither_answers_nor_blocks_anything(
    prod: Project, two: Callable[[str], str], details: str
) -> None:
    asked = ask(prod)
    with psycopg.connect(two("bob"), autocommit=True) as bob:
        bob.execute(
            "INSERT INTO schema_migrations_log (event, run_id, details) VALUES ('approve', %s, %s)",
            (asked.request.run_id, details.replace("ROW", str(asked.request.row))),
        )
    assert ask(prod, asked.request.run_id).standing is Standing.WAITING
    assert prod.run("reject", asked.request.run_id, "--reason", "enough").code == 0


def test_what_was_asked_before_a_restore_is_asked_no_more(prod: Project) -> None:
    """A copy of prod holds what waited there when its backup was taken; nobody waits for that on the copy."""
    asked = ask(prod)
    prod.query("INSERT INTO schema_migrations_log (event, details) VALUES ('restore', '{}')", "prod")
    assert prod.run("approve", asked.request.run_id).code == 2
    assert ask(prod).standing is Standing.WAITING
    assert events(prod) == ["ask", "restore", "ask"]


def test_who_does_not_own_the_log_writes_under_their_own_name_whatever_they_were_granted(
    prod: Project, two: Callable[[str], str]
) -> None:
    his = two("bob")  # makes the role
    prod.query("GRANT INSERT ON schema_migrations_log TO bob", "prod")
    with psycopg.connect(his, autocommit=True) as bob:
        bob.execute("INSERT INTO schema_migrations_log (event, actor, at) VALUES ('approve', 'carol', '2020-01-01')")
    query = "SELECT actor, at > now() - interval '1 hour' FROM schema_migrations_log WHERE event = 'approve'"
    assert prod.query(query, "prod") == [("bob", True)]
    assert chain_holds(prod)


def test_a_role_that_may_not_answer_is_told_what_it_lacks(prod: Project, server: ThrowawayServer) -> None:
    asked = ask(prod)
    database = prod.urls["prod"].rsplit("/", 1)[1]
    prod.urls["prod"] = role(server, database, "reader", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    refused = prod.run("approve", asked.request.run_id)
    assert refused.code in (4, 7) and "lockstep init" in refused.err, refused


# -- who does not wait any more -----------------------------------------------------------------------------------------

_WAITER = """
import sys
from pathlib import Path
from lockstep.config import load_settings
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.approval import gate
from lockstep.service.progress import Silent
settings, run = load_settings(Path(sys.argv[1])), RunInfo(run_id=sys.argv[2])
wanted = gate.Wanted(target="prod", plan_digest="p", change_digest=None, what=(), headline="", backup=None)
environment = settings.environment("prod")
gate.wait(settings, environment, run, gate.ask(settings, environment, run, wanted, Silent()), Silent())
"""


@contextmanager
def process_that_waits(prod: Project) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    run_id = new_run_id()
    environ = {**os.environ, **prod.environ}
    with subprocess.Popen([sys.executable, "-c", _WAITER, str(prod.folder), run_id], env=environ) as process:
        try:
            look = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lockstep/{run_id}'"
            deadline = time.monotonic() + 60
            while events(prod) != ["ask"] or prod.query(look, "prod") != [(1,)]:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            yield run_id, process
        finally:
            process.kill()


def test_a_run_that_waits_is_not_overtaken_until_its_process_is_gone(prod: Project) -> None:
    with process_that_waits(prod) as (run_id, process):
        with pytest.raises(RunWaits, match=run_id) as busy:
            ask(prod)
        assert busy.value.exit_code is ExitCode.LOCKED
        assert events(prod) == ["ask"]
        process.kill()
        process.wait()
        assert ask(prod).standing is Standing.WAITING
        assert events(prod) == ["ask", "withdraw", "ask"]
        assert prod.run("approve", run_id).code == 7
        assert chain_holds(prod)


def test_a_run_that_does_something_else_before_it_waits_is_not_overtaken(prod: Project) -> None:
    asked = ask(prod)
    with (
        gate.present(prod.settings(), prod.environment("prod"), RunInfo(run_id=asked.request.run_id)),
        pytest.raises(RunWaits, match=asked.request.run_id),
    ):
        ask(prod)
    assert events(prod) == ["ask"]


def test_a_process_that_is_stopped_while_it_waits_withdraws_what_it_asked(prod: Project) -> None:
    with process_that_waits(prod) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
        assert events(prod) == ["ask", "withdraw"]


def test_of_two_that_ask_at_once_one_waits(prod: Project) -> None:
    barrier = threading.Barrier(4)
    outcomes: list[Standing | None] = []
    settings = prod.settings()

    def run() -> None:
        info = RunInfo(run_id=new_run_id())
        environment = settings.environment("prod")
        # A session of its own, by which the others see that it is there, as a run holds one.
        with psycopg.connect(prod.urls["prod"], application_name=f"lockstep/{info.run_id}"):
            barrier.wait()
            try:
                outcomes.append(gate.ask(settings, environment, info, wanted(), Silent()).standing)
            except RunWaits:
                outcomes.append(None)
            barrier.wait()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(outcomes, key=str) == [None, None, None, Standing.WAITING]
    assert events(prod).count("ask") - events(prod).count("withdraw") == 1
