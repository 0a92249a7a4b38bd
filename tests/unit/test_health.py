"""Health, the pure part: severities follow from numbers and thresholds; a wrong [health] is an error with its line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lockstep.config import load_settings
from lockstep.core.health.checks import BY_ID, CHECKS
from lockstep.core.health.facts import BackupAges, Database, Facts, OldTable, Sequence, SequenceValue, Server, Slot
from lockstep.core.health.findings import Finding, Hidden, Ignore, Severity, divided, sorted_findings
from lockstep.core.health.judging import judge
from lockstep.core.health.text import summary
from lockstep.core.health.thresholds import DAY, Limits, Thresholds
from lockstep.core.size import format_bytes, parse_bytes
from lockstep.errors import ConfigError
from lockstep.service.health import thresholds

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SERVER = Server(
    database="app", role="reader", schemas=[], owners=[], now=NOW, standby=False, sees_sessions=True,
    max_connections=100, reserved_connections=3, connections=10, autovacuum=True, fsync=True, full_page_writes=True,
    checksums=True, freeze_max_age=200_000_000, multixact_freeze_max_age=400_000_000,
    statistics_since=NOW - timedelta(days=10), archiving=False, archived_count=0, failed_count=0,
    last_archived_time=None, last_failed_time=None, last_failed_wal=None,
)  # fmt: skip
KEY = Sequence(
    schema="public", name="t_id_seq", oid=1, minimum=1, maximum=2**31 - 1, increment=1, cycles=False, readable=True,
    table_schema="public", table="t", column="id", type="integer", table_oid=7, attnum=1, inserted=0,
)  # fmt: skip


def judged(facts: Facts) -> list[tuple[str, str, Severity]]:
    return [(f.check, f.object, f.severity) for f in judge(facts, Thresholds(), "prod")]


@pytest.mark.parametrize(
    ("limits", "value", "expected"),
    [
        (Limits(70, 90), 69.9, None),
        (Limits(70, 90), 70, Severity.WARNING),
        (Limits(70, 90), 90, Severity.CRITICAL),
        (Limits(70, 90), None, None),
        (Limits(180, 30), 181, None),
        (Limits(180, 30), 180, Severity.WARNING),
        (Limits(180, 30), 0, Severity.CRITICAL),
        (Limits(5, 5), 5, Severity.CRITICAL),
    ],
)
def test_a_number_is_held_against_two_limits(limits: Limits, value: float | None, expected: Severity | None) -> None:
    assert limits.judge(value) is expected


@pytest.mark.parametrize(
    ("seen", "inserted", "expected"),
    [
        (timedelta(days=10), 800_000_000, Severity.CRITICAL),  # 16 days left
        (timedelta(days=10), 100_000_000, Severity.WARNING),  # 134 days left
        (timedelta(days=10), 1_000, None),
        (timedelta(hours=6), 800_000_000, None),  # too short to tell days by: a load on the first evening
    ],
)
def test_the_days_left_weigh_where_the_rate_was_seen_for_a_day(
    seen: timedelta, inserted: int, expected: Severity | None
) -> None:
    facts = Facts(
        server=replace(SERVER, statistics_since=NOW - seen),
        sequences=(replace(KEY, inserted=inserted),),
        sequence_values=(SequenceValue(oid=1, value=800_000_000),),
    )
    assert [severity for _, _, severity in judged(facts)] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("age", "expected"),
    [(250_000_000, None), (300_000_000, Severity.WARNING), (1_700_000_000, Severity.CRITICAL)],
)
def test_old_transactions_weigh_by_autovacuums_lateness_and_by_the_way_to_the_end(
    age: int, expected: Severity | None
) -> None:
    app = Database(
        name="app", current=True, xid_age=age, multixact_age=5, checksum_failures=None, checksum_last_failure=None
    )
    tables = (OldTable(name="public.big", xid_age=age, multixact_age=1),)
    facts = Facts(server=SERVER, databases=(app,), oldest_tables=tables)
    assert judged(facts) == ([("xid-age", "app", expected)] if expected else [])


@pytest.mark.parametrize(("archived", "expected"), [(None, True), (NOW - timedelta(hours=2), True), (NOW, False)])
def test_an_archive_that_works_again_is_no_finding(archived: datetime | None, expected: bool) -> None:
    failed = replace(SERVER, archiving=True, failed_count=3, last_failed_time=NOW - timedelta(hours=1))
    assert bool(judged(Facts(server=replace(failed, last_archived_time=archived)))) is expected


@pytest.mark.parametrize(
    ("active", "status", "retained", "expected"),
    [
        (True, "reserved", 0, None),
        (True, "reserved", 60_000_000_000, Severity.CRITICAL),
        (False, "reserved", 0, Severity.WARNING),
        (False, "lost", None, Severity.CRITICAL),
        (True, "unreserved", 1, Severity.CRITICAL),
    ],
)
def test_a_slot_weighs_by_reader_status_and_bytes(
    active: bool, status: str, retained: int | None, expected: Severity | None
) -> None:
    slot = Slot(
        name="s", type="logical", database="app", active=active, wal_status=status, retained=retained, xid_age=None
    )
    assert [severity for _, _, severity in judged(Facts(server=SERVER, slots=(slot,)))] == (
        [expected] if expected else []
    )


@pytest.mark.parametrize(
    ("taken", "verified", "ok", "expected"),
    [
        (1, 1, True, []),
        (30, 24, True, [("backup", Severity.WARNING)]),
        (80, 24, True, [("backup", Severity.CRITICAL)]),
        (1, 24 * 10, True, [("verified backup", Severity.WARNING)]),
        (1, 1, False, [("verified backup", Severity.CRITICAL)]),
        (1, None, True, [("verified backup", Severity.INFO)]),
        (None, None, True, [("backup", Severity.CRITICAL)]),
    ],
)
def test_backups_weigh_by_their_age_and_by_their_proof(
    taken: int | None, verified: int | None, ok: bool, expected: list[tuple[str, Severity]]
) -> None:
    def ago(hours: int | None) -> datetime | None:
        return None if hours is None else NOW - timedelta(hours=hours)

    facts = Facts(server=SERVER, backups=BackupAges(taken_at=ago(taken), verified_at=ago(verified), ok=ok))
    assert [(name, severity) for _, name, severity in judged(facts)] == expected


def test_findings_come_worst_first_and_in_the_order_of_the_checks() -> None:
    def one(check: str, severity: Severity, name: str = "x") -> Finding:
        return Finding(check=check, severity=severity, object=name, text="")

    given = [
        one("unused-index", Severity.INFO),
        one("connections", Severity.WARNING),
        one("key-exhaustion", Severity.WARNING),
        one("backup-age", Severity.CRITICAL),
    ]
    found = sorted_findings(given, [check.id for check in CHECKS])
    assert [f.check for f in found] == ["backup-age", "key-exhaustion", "connections", "unused-index"]
    hidden = (Hidden(check="xid-age", why="w", fix=None), Hidden(check="xid-age", why="v", fix=None))
    text = summary(found, checks=27, hidden=hidden, ignored=2)
    assert text == (
        "1 critical, 2 warnings, 1 to know; 27 checks, 1 of them not judged in full, "
        "2 findings ignored by lockstep.toml"
    )


def test_an_ignored_finding_is_known_by_check_and_pattern_together() -> None:
    finding = Finding(check="no-primary-key", severity=Severity.INFO, object="public.Log_1", text="")
    assert divided([finding], [Ignore(check="no-primary-key", object="public.Log_*", reason="r")]) == (
        [],
        [(finding, "r")],
    )
    assert divided([finding], [Ignore(check="no-primary-key", object="public.log_*", reason="r")])[0] == [finding]
    assert divided([finding], [Ignore(check="dead-rows", object="*", reason="r")])[0] == [finding]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('[health]\nkey_used = [90, 70]\n', 2, "health.key_used: the first number is for a warning"),
        ('[health]\nkey_days_left = [30, 180]\n', 2, "health.key_days_left: the first number is for a warning"),
        ('[health]\nblocked = ["1h", "1min"]\n', 2, "health.blocked: the first number is for a warning"),
        ('[health]\nslot_retained = ["5GB", "50 apples"]\n', 2, "'50 apples' is no size"),
        ('[health]\ntimeout = "0s"\n', 2, "must be longer than nothing"),
        ('[health]\n\n[[health.ignore]]\ncheck = "dead-rows"\nreason = "r"\n[[health.ignore]]\ncheck = "dead-row"\nreason = "r"\n',
         7, "there is no check 'dead-row'; did you mean 'dead-rows'?"),
        ('[[health.ignore]]\ncheck = "dead-rows"\nreason = " "\n', 3, "say why"),
    ],
)  # fmt: skip
def test_a_wrong_threshold_is_an_error_with_its_line(text: str, line: int, problem: str, tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        thresholds(load_settings(tmp_path, {}))
    assert f"lockstep.toml:{line}: " in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('[[health.ignore]]\ncheck = "dead-rows"\n', 1, "missing required field `reason`"),
        ('[[health.ignore]]\ncheck = "dead-rows"\nreason = "r"\n[[health.ignore]]\nreasn = "r"\n', 5, "did you mean 'reason'"),
        ('[health]\nkey_used = [70]\n', 2, "health.key_used: Expected `array` of length 2"),
    ],
)  # fmt: skip
def test_a_wrong_table_of_an_array_is_named_with_its_line(text: str, line: int, problem: str, tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, {})
    assert f"lockstep.toml:{line}: " in str(caught.value)
    assert problem in str(caught.value)


def test_the_defaults_of_the_configuration_are_those_of_the_rules(tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text("")
    assert thresholds(load_settings(tmp_path, {})) == Thresholds()
    assert Thresholds().unused_index == 30 * DAY
    assert len(BY_ID) == len(CHECKS)


def test_config_shows_thresholds_and_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "lockstep.toml").write_text('[[health.ignore]]\ncheck = "dead-rows"\nreason = "r"\n')
    shown = {v.key: (v.shown, v.origin) for v in load_settings(tmp_path, {}).values()}
    assert shown["health.key_used"] == ("70, 90", "default")
    assert shown["health.ignore[0]"] == ("check dead-rows, reason r, object *", "lockstep.toml:1")


def test_a_size_is_read_as_it_is_written() -> None:
    assert [parse_bytes(text) for text in ("12 B", "1.5kB", "10MB", "2TB")] == [12, 1_500, 10_000_000, 2 * 10**12]
    assert parse_bytes(format_bytes(4_500_000)) == 4_500_000
    with pytest.raises(ValueError, match="is no size"):
        parse_bytes("10")


@pytest.mark.parametrize(("cycles", "count"), [(False, 1), (True, 0)])
def test_a_sequence_that_cycles_is_never_used_up(cycles: bool, count: int) -> None:
    facts = Facts(
        server=SERVER,
        sequences=(replace(KEY, cycles=cycles),),
        sequence_values=(SequenceValue(oid=1, value=2**31 - 1),),
    )
    assert len(judged(facts)) == count
