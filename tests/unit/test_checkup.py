"""What `doctor` makes of single facts, and of all of them together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lockstep.core.checkup import Check, Checkup, Outcome, Section, not_checked, ok, problem, text_of, warning
from lockstep.core.duties import Duty, Login, duty, role_check
from lockstep.core.setup_rules import (
    ClockReading,
    Encryption,
    clock,
    duration,
    endpoint,
    env_file,
    flows,
    prefect_server,
    prefect_versions,
    program_versions,
    retention,
    room,
    secret_key_file,
    tls,
    worker,
)
from lockstep.errors import ExitCode

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def reading(off: float, *, took: float = 0.0, step: float = 0.0) -> ClockReading:
    """A clock that is `off` seconds ahead, read in `took` seconds."""
    return ClockReading(
        before=NOW,
        theirs=NOW + timedelta(seconds=took / 2 + off),
        after=NOW + timedelta(seconds=took),
        step=timedelta(seconds=step),
    )


@pytest.mark.parametrize(
    ("off", "took", "step", "outcome"),
    [
        (0, 0, 0, Outcome.OK),
        (5, 0, 0, Outcome.OK),
        (5.1, 0, 0, Outcome.WARNING),
        (-5.1, 0, 0, Outcome.WARNING),
        (-5.1, 0, 1, Outcome.OK),  # a clock that is cut to seconds
        (5.9, 2, 0, Outcome.OK),  # the answer's way explains the rest
        (6.1, 2, 0, Outcome.WARNING),
        (900, 0, 0, Outcome.WARNING),
        (901, 0, 0, Outcome.PROBLEM),
        (-901, 0, 0, Outcome.PROBLEM),
        (86_400, 0, 0, Outcome.PROBLEM),
    ],
)
def test_a_clock_counts_by_what_is_certain_of_its_difference(
    off: float, took: float, step: float, outcome: Outcome
) -> None:
    assert clock(reading(off, took=took, step=step), "the store's").outcome is outcome


def test_a_wrong_clock_is_said_with_seconds_and_direction() -> None:
    assert clock(reading(-42), "the server's").text == "the server's clock is 42 s behind this machine's"
    assert "3,600 s (60 min) ahead of this machine's; signed" in clock(reading(3600), "the store's").text


def encryption(mode: str, *, protocol: str | None = "TLSv1.3", in_use: bool = True, local: bool = False) -> Encryption:
    return Encryption(in_use=in_use, mode=mode, protocol=protocol, cipher="AES", stays_here=local)


@pytest.mark.parametrize(
    ("found", "outcome", "said"),
    [
        (encryption("verify-full"), Outcome.OK, "TLSv1.3 AES, verify-full"),
        (encryption("verify-ca"), Outcome.WARNING, "name is not compared"),
        (encryption("require"), Outcome.WARNING, "nobody verifies"),
        (encryption("verify-full", protocol="TLSv1.1"), Outcome.WARNING, "outdated"),
        (encryption("", in_use=False, local=True), Outcome.OK, "does not leave this machine"),
        (encryption("", in_use=False), Outcome.PROBLEM, "in clear"),
        (encryption("require", local=True), Outcome.OK, "TLSv1.3 AES, require"),
    ],
)
def test_tls_is_good_where_nobody_in_between_can_read_or_answer(found: Encryption, outcome: Outcome, said: str) -> None:
    check = tls(found)
    assert (check.outcome, said in check.text) == (outcome, True), check


@pytest.mark.parametrize(
    ("mode", "tracked", "ignored", "outcomes"),
    [
        (0o100600, False, True, [Outcome.OK]),
        (0o100640, None, None, [Outcome.OK]),
        (0o100644, False, True, [Outcome.WARNING]),
        (0o100600, False, False, [Outcome.WARNING]),
        (0o100600, True, False, [Outcome.PROBLEM]),
        (0o100644, True, False, [Outcome.WARNING, Outcome.PROBLEM]),
    ],
)
def test_the_env_file_is_for_its_owner_and_not_for_git(
    mode: int, tracked: bool | None, ignored: bool | None, outcomes: list[Outcome]
) -> None:
    assert [check.outcome for check in env_file(mode=mode, tracked=tracked, ignored=ignored)] == outcomes


def test_a_store_in_clear_is_a_warning_unless_it_is_on_this_machine() -> None:
    found = [endpoint(url) for url in (None, "https://s3.example.com", "http://127.0.0.1:8333", "http://localhost:1")]
    assert found == [None] * 4
    assert isinstance(check := endpoint("http://s3.example.com:9000"), Check) and check.outcome is Outcome.WARNING


def test_a_secret_key_that_everybody_may_read_is_a_warning() -> None:
    assert secret_key_file(0o100640) is None
    assert isinstance(check := secret_key_file(0o100644), Check) and "mode 644" in check.text


def test_a_program_older_than_its_server_is_a_warning() -> None:
    assert program_versions("p", (("pg_dump", "17.10", 10),), "17.10", 10).outcome is Outcome.OK
    assert program_versions("p", (("pg_dump", "17.9", 9),), "17.10", 10).outcome is Outcome.WARNING


def test_a_fastapi_that_stops_the_server_is_a_problem_where_a_deploy_would_start_one() -> None:
    assert prefect_versions("3.8.8", "0.150.9", own_server=True).outcome is Outcome.OK
    assert prefect_versions("3.8.8", "0.151.0", own_server=True).outcome is Outcome.PROBLEM
    assert prefect_versions("3.8.8", "1.0", own_server=False).outcome is Outcome.WARNING
    assert prefect_versions(None, None, own_server=True).outcome is Outcome.WARNING


@pytest.mark.parametrize(
    ("server", "outcome"),
    [
        ("3.8.8", Outcome.OK),
        ("3.8.0", Outcome.OK),
        ("3.9.1", Outcome.OK),
        ("3.7.2", Outcome.WARNING),
        ("2.20.1", Outcome.PROBLEM),
    ],
)
def test_a_prefect_server_must_not_be_older_than_its_clients(server: str, outcome: Outcome) -> None:
    assert prefect_server(server, "3.8.8").outcome is outcome


def test_a_worker_is_named_with_its_last_heartbeat() -> None:
    online = (("w1", NOW - timedelta(seconds=12)),)
    assert worker(online, 3, NOW, "lockstep").text == "online: w1, heartbeat 12 s ago"
    assert "none is online" in worker((), 1, NOW, "lockstep").text
    assert "prefect worker start --pool p" in str(worker((), 0, NOW, "p").remedy)


def test_too_little_room_for_a_restored_backup_is_a_warning() -> None:
    shown = ("1 GB", "2 GB")
    assert room(1, 2, folder="f", what="prod", shown=shown).outcome is Outcome.WARNING
    assert room(2, 2, folder="f", what="prod", shown=shown).outcome is Outcome.OK
    assert room(2, None, folder="f", what="", shown=shown).outcome is Outcome.NOT_CHECKED


def checkup(*checks: Check) -> Checkup:
    return Checkup(sections=(Section(name="machine", environment=False, checks=checks),))


def test_the_exit_code_is_the_highest_of_all_problems_and_0_without_any() -> None:
    bad = problem("a", "t", None, ExitCode.USAGE), problem("b", "t", None, ExitCode.REFUSED)
    assert checkup(ok("c", "t"), warning("d", "t", "r"), not_checked("e", "t")).exit_code == 0
    assert checkup(*bad, warning("d", "t", None)).exit_code == ExitCode.REFUSED


def test_a_line_a_check_with_its_remedy_below_and_one_line_for_all_that_had_no_connection() -> None:
    found = checkup(
        ok("TLS", "fine"),
        problem("connection", "refused", "do this", ExitCode.UNREACHABLE),
        not_checked("role", "no connection"),
        not_checked("ledger", "no connection"),
        not_checked("disk", "no backup"),
    )
    assert text_of(found).splitlines() == [
        "machine",
        "  ok           TLS         fine",
        "  problem      connection  refused",
        "                           → do this",
        "  not checked  role, ledger: no connection",
        "  not checked  disk        no backup",
        "",
        "1 problem, no warnings, 3 not checked",
    ]


@pytest.mark.parametrize(
    "events, runs, outcome, remedy",
    [
        ("P90D", None, Outcome.OK, None),
        ("P7D", None, Outcome.WARNING, "on the server: PREFECT_SERVER_EVENTS_RETENTION_PERIOD=P90D"),
        ("PT2160H", "31536000", Outcome.OK, None),
        ("P90D", "P90D", Outcome.WARNING, "on the server: PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=31536000"),
    ],
)
def test_a_server_that_forgets_early_is_a_warning(
    events: str, runs: str | None, outcome: Outcome, remedy: str | None
) -> None:
    found = retention(duration(events), duration(runs) if runs else None)
    assert (found.outcome, found.remedy) == (outcome, remedy)


def test_flows_of_another_version_are_a_warning_and_ones_that_a_project_changed_are_not() -> None:
    assert flows((), laid_out_by=None, installed="2.0").outcome is Outcome.OK
    assert "changed here: tasks/plan.py" in flows(("tasks/plan.py",), laid_out_by="2.0", installed="2.0").text
    older = flows(("a", "b", "c", "d"), laid_out_by="1.0", installed="2.0")
    assert older.outcome is Outcome.WARNING
    assert older.text == "a, b, c and 1 more: of Lockstep 1.0, and 2.0 is installed"
    assert flows(("a",), laid_out_by=None, installed="2.0").outcome is Outcome.WARNING


def test_a_superuser_is_fine_on_a_machine_of_ones_own_and_a_warning_elsewhere() -> None:
    here = role_check("postgres", "postgres", superuser=True, bypasses_rls=True, local=True, environment="dev")
    there = role_check("postgres", "postgres", superuser=True, bypasses_rls=True, local=False, environment="prod")
    assert (here.outcome, there.outcome, there.exit_code) == (Outcome.OK, Outcome.WARNING, ExitCode.DONE)
    assert there.remedy is not None and there.remedy.startswith("lockstep doctor --grants prod")


_NOBODY = Login(name="x", superuser=False, ledger=True, owns=False, reads=False, backs_up=False, founds=False)


@pytest.mark.parametrize(
    ("login", "found"),
    [
        (replace(_NOBODY, reads=True), Duty.LOOK),
        (replace(_NOBODY, reads=True, ledger=False), Duty.LOOK),
        (replace(_NOBODY, backs_up=True), Duty.BACK_UP),
        (replace(_NOBODY, owns=True, reads=True, backs_up=True), Duty.APPLY),  # the migrator belongs to the backup role
        (replace(_NOBODY, ledger=False, founds=True, backs_up=True), Duty.APPLY),  # before its first init
        (replace(_NOBODY, superuser=True, reads=True, backs_up=True), Duty.APPLY),  # belongs to all
        (replace(_NOBODY, founds=True), Duty.OTHER),
        (replace(_NOBODY, ledger=False), Duty.APPLY),
    ],
)
def test_what_a_login_is_there_for(login: Login, found: Duty) -> None:
    assert duty(login) is found
