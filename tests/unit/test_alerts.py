"""Alerts as text, and what may not be in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lockstep.config import Settings, load_settings
from lockstep.core.alert import Alert, incident_id
from lockstep.core.alerttext import SUBJECT, body, document, subject
from lockstep.core.approval import Approval, Request, Standing
from lockstep.errors import LockHeld, MigrationFailed
from lockstep.errors.running import Failing
from lockstep.service.alerting.automations import Wish, automations
from lockstep.service.alerting.making import Known, of_error, of_waiting
from lockstep.service.alerting.places import places
from lockstep.service.alerting.sending import redacted
from lockstep.service.redaction import known_secrets

AT = datetime(2026, 11, 30, tzinfo=UTC)
HOOK = "https://hooks.example.com:8443/in/T0k3n-that-nobody-sees?sig=s1gn4ture9"


def _alert(**given: object) -> Alert:
    values: dict[str, object] = {
        "occasion": "failed",
        "incident": "0123456789ab",
        "at": datetime(2026, 11, 30, tzinfo=UTC),
        "environment": "prod",
        "headline": "005-your-new-feature failed (SQLSTATE 23505)",
        "run_id": "20261130-061309-091f",
        "url": "http://prefect/runs/flow-run/1",
        "migration": "005-your-new-feature",
        "file": "migrations/005-your-new-feature.sql",
        "line": 12,
        "sqlstate": "23505",
        "message": "prod (db/shop): it failed\n  12 | CREATE UNIQUE INDEX",
        "state": "2 of 3 applied; 005 rolled back",
        "ways_back": ("revert: 2.1 s, loses nothing: lockstep revert prod --to 4",),
        "next_command": "lockstep plan prod",
        "contacts": ("ops@example.com",),
        "runbook": "https://example.com/runbook",
    }
    return Alert(**{**values, **given})  # type: ignore[arg-type]


def test_it_says_what_where_in_what_state_and_what_to_do_next() -> None:
    assert subject(_alert()) == "lockstep FAILED prod: 005-your-new-feature failed (SQLSTATE 23505)"
    assert (
        body(_alert(repeats=2))
        == """\
environment: prod
migration: 005-your-new-feature
file: migrations/005-your-new-feature.sql:12
SQLSTATE: 23505

prod (db/shop): it failed
  12 | CREATE UNIQUE INDEX

state: 2 of 3 applied; 005 rolled back
ways back:
  revert: 2.1 s, loses nothing: lockstep revert prod --to 4
it happened 2 times before, since it was last told

next: lockstep plan prod
run: 20261130-061309-091f
link: http://prefect/runs/flow-run/1
contacts: ops@example.com
runbook: https://example.com/runbook
incident: 0123456789ab"""
    )


@pytest.mark.parametrize("most", [None, 2000, 1000, 700])
def test_a_place_that_takes_little_still_gets_the_next_command(most: int | None) -> None:
    long = _alert(message="\n".join(f"line {number} {'x' * 200}" for number in range(500)))
    text = body(long, most=most)
    assert len(text) <= (most or 10_000)
    assert "next: lockstep plan prod" in text and "incident: 0123456789ab" in text


def test_what_others_wrote_stays_text() -> None:
    evil = _alert(
        headline="x\nBcc: everybody\x1b[2J <!channel> @here",
        message="first\x07\n@channel look, mail a@here.com\u202e",
    )
    assert "\n" not in subject(evil) and "\x1b" not in subject(evil)
    assert len(subject(_alert(headline="x" * 999))) <= SUBJECT
    for text in (subject(evil), body(evil)):
        assert not [call for call in ("<!", "@channel", "@here ", "\u202e", "\x07") if call in text]
    assert "a@here.com" in body(evil)  # an address is none of it


def test_an_incident_is_the_same_problem_and_no_other() -> None:
    assert incident_id("a", "prod", None) == incident_id("a", "prod", None)
    different = {incident_id("a", "b", None), incident_id("a", None, "b"), incident_id("ab", None, None)}
    assert len(different) == 3


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "lockstep.toml").write_text(
        "[environments.prod]\nurl = '${PROD}'\nprotected = false\n"
        "[alerts]\nurls = ['${HOOK}', '${NOTHING}', '${MAIL}', 'nonsense', '${UNSET}']\n"
        "heartbeat_url = '${BEAT}'\n"
    )
    variables = {
        "PROD": "postgresql://app:pa%40ss-w0rd@db/shop",
        "HOOK": HOOK,
        "NOTHING": "",
        "MAIL": "mailtos://bot:m41lp4ss@mail.example.com?to=ops@example.com",
        "BEAT": "https://hc.example.com/0d1e2f3a-beat",
    }
    return load_settings(tmp_path, variables)


def _failed(words: str, sqlstate: str, *, in_code: bool = False) -> MigrationFailed:
    return MigrationFailed(
        f"prod: 005-x.sql:3: {words}\n  context: COPY t, line 1: \"4711,Smith\"\nrolled back",
        target="prod (db/shop)", file="005-x.sql", line=3, sqlstate=sqlstate, outcome="005 rolled back",
        failing=Failing(primary=words, in_code=in_code),
    )  # fmt: skip


def test_a_value_of_a_row_never_leaves(settings: Settings) -> None:
    for error in (
        _failed('invalid input syntax for type integer: "Smith"', "22P02"),
        _failed("customer Smith is late", "P0001", in_code=True),
    ):
        alert = of_error(settings, error, Known(environment="prod"))
        assert alert is not None and f"SQLSTATE: {error.sqlstate}" in body(alert)
        assert "Smith" not in str(document(alert)) and "005 rolled back" in body(alert)


def test_another_run_at_work_is_nobodys_trouble(settings: Settings) -> None:
    assert of_error(settings, LockHeld(target="prod", holder="alice"), Known(environment="prod")) is None


def test_the_same_failure_is_one_incident_and_another_migration_is_another(settings: Settings) -> None:
    made = [
        of_error(settings, _failed("x", code), Known(environment=where, run_id=run))
        for code, where, run in (("23505", "prod", "1"), ("23505", "prod", "2"), ("23505", "dev", "3"))
    ]
    first, second, other = (one.incident for one in made if one is not None)
    assert first == second != other


def test_what_is_asked_anew_is_told_anew(settings: Settings) -> None:
    asked = Request(
        row=10, at=AT, run_id="20261130-120000-abcd", attempt=1, environment="prod", plan_digest="p1",
        change_digest="c1", expires_at=AT, role="deployer", by="alice@laptop", flow_run=None, what=("001-a.sql",),
        headline="passed", backup="b1",
    )  # fmt: skip
    again = replace(asked, row=14, change_digest="c2")  # the same plan with other changes, or after a rejection
    made = [
        of_waiting(settings, Approval(request=one, standing=Standing.WAITING), url=None).incident
        for one in (asked, asked, again)
    ]
    assert made[0] == made[1] != made[2]


def test_places_are_shown_without_what_lets_one_post_there(settings: Settings) -> None:
    found, trouble = places(settings)
    assert [place.name for place in found] == ["1-webhook", "3-mailtos"]
    assert [place.shown for place in found] == ["webhook hooks.example.com:8443", "mailtos ops@example.com"]
    assert [text.split(" ", 3)[1] for text in trouble] == ["4", "5:"]
    shown = f"{found} {trouble} {[value.shown for value in settings.values()]}"
    for secret in ("T0k3n", "s1gn4ture9", "m41lp4ss", "0d1e2f3a"):
        assert secret not in shown


def test_a_secret_that_got_into_an_error_is_taken_out(settings: Settings) -> None:
    leaks = _alert(
        headline=f"could not reach {HOOK}",
        message="POST /in/T0k3n-that-nobody-sees failed; password=hunter22; postgresql://app:pa%40ss-w0rd@db/shop",
        ways_back=("with pa@ss-w0rd",),
        next_command="curl https://hc.example.com/0d1e2f3a-beat",
    )
    text = str(document(redacted(leaks, known_secrets(settings))))
    for secret in ("T0k3n", "hunter22", "pa%40ss", "pa@ss", "0d1e2f3a"):
        assert secret not in text, text


def test_nobody_else_is_watched_and_a_brace_in_a_contact_is_a_brace() -> None:
    wish = Wish(
        project="shop",
        deployments=("d1",),
        beating=("d1",),
        blocks={"1-webhook": "b1", "2-mailto": "b2"},
        on=frozenset({"crashed", "late"}),
        expires_seconds=3600,
        contacts=('{{ 7 * 7 }} %} "ops"',),
        runbook=None,
        run_url="http://ui/runs/{id}",
    )
    from jinja2 import Environment

    names = [one["name"] for one in automations(wish)]
    assert len(set(names)) == len(names) and all(name.startswith("lockstep: shop: ") for name in names)
    for one in automations(wish):
        trigger = one["trigger"]
        if "match_related" in trigger:
            assert trigger["match_related"]["prefect.resource.id"] == ["prefect.deployment.d1"]
        else:
            assert trigger["match"]["prefect.resource.id"].startswith("lockstep.place.shop.")
        for action in one["actions"]:
            text = (
                Environment(autoescape=False)
                .from_string(action.get("body", ""))
                .render(event={"resource": {}, "payload": {}}, flow_run={"created": datetime.now(UTC), "id": "x" * 36})
            )
            assert "49" not in text.split("contacts:")[-1]
    assert not any("approval" in str(one["actions"]) and len(one["actions"]) > 1 for one in automations(wish))


def test_runs_whose_heartbeats_are_rare_are_never_given_up() -> None:
    wish = Wish(
        project="shop", deployments=("d1", "d2"), beating=("d2",), blocks={}, on=frozenset(), expires_seconds=60,
        contacts=(), runbook=None, run_url=None,
    )  # fmt: skip
    made = {one["name"].removeprefix(wish.prefix): one["trigger"] for one in automations(wish)}
    assert made["no sign of life"]["match_related"]["prefect.resource.id"] == ["prefect.deployment.d2"]
    assert len(made["cancelled"]["match_related"]["prefect.resource.id"]) == 2
    none = replace(wish, beating=())
    assert "no sign of life" not in {one["name"].removeprefix(wish.prefix) for one in automations(none)}
