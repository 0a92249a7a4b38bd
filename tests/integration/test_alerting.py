"""Alerts as they arrive: a real webhook, a real SMTP server, a real bucket that keeps what was told."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lockstep.core.alert import STATUS, Alert
from lockstep.postgres.throwaway import free_port
from lockstep.service.alerting.incidents import open_incidents
from lockstep.service.alerting.nightly import of_overview
from lockstep.service.alerting.sending import heartbeat, raise_alert, recovered
from lockstep.service.alerting.watching import watch
from lockstep.service.outcome import outcomes
from lockstep.service.overview import overview
from tests.integration.backup.conftest import new_store, s3, store
from tests.integration.backup.store import Store
from tests.project import Project
from tests.receivers import MailSink, Receiver, mailing, receiving

__all__ = ["new_store", "s3", "store"]

TOKEN = "T0k3n-that-nobody-sees"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with mailing() as made:
        yield made


@pytest.fixture
def told(project: Project, hook: Receiver, mail: MailSink, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose alerts go to a webhook and by e-mail. No bucket, no Prefect server."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(project.folder / "none.toml"))
    project.variables |= {"HOOK": hook.url(f"/in/{TOKEN}?Sig=aBc"), "MAIL": mail.url("ops@example.com")}
    project.toml = "[project]\ncontacts = ['ops@example.com']\n[alerts]\nurls = ['${HOOK}', '${MAIL}']\n"
    project.configure()
    return project


@pytest.fixture
def remembered(told: Project, store: Store) -> Project:
    """The same with a bucket."""
    told.variables["AWS_EC2_METADATA_DISABLED"] = "true"
    told.toml += f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    told.configure()
    return told


def _alert(**given: object) -> Alert:
    values: dict[str, object] = {
        "occasion": "failed", "incident": "0123456789ab", "at": datetime.now(UTC), "environment": "dev",
        "headline": "005-x failed", "message": "it failed", "run_id": "20261130-061309-091f",
    }  # fmt: skip
    return Alert(**{**values, **given})  # type: ignore[arg-type]


def test_a_failed_sync_arrives_everywhere_and_says_what_a_person_needs(
    told: Project, hook: Receiver, mail: MailSink
) -> None:
    told.run("init")
    told.write("001-a.sql", "CREATE TABLE t (id int PRIMARY KEY);\nINSERT INTO t VALUES (4711);")
    told.write("002-b.sql", "SELECT 1;\nINSERT INTO t VALUES (4711);")

    failed = told.run("sync")

    assert failed.code == 6
    ((path, got),) = hook.got
    assert path == f"/in/{TOKEN}?Sig=aBc"
    assert got["subject"] == "lockstep FAILED dev: 002-b failed (SQLSTATE 23505)"
    assert (got["occasion"], got["environment"], got["migration"]) == ("failed", "dev", "002-b")
    assert (got["file"], got["line"], got["sqlstate"]) == ("migrations/002-b.sql", 2, "23505")
    for part in ("1 applied in this run, and they stay: 001-a", "contacts: ops@example.com", got["run_id"]):
        assert part in got["body"]
    assert "4711" not in json.dumps(got)  # a row's
    (message,) = mail.got
    assert "lockstep FAILED dev: 002-b failed" in message and "SQLSTATE: 23505" in message
    assert "dev: alerted webhook 127.0.0.1" in failed.err and "dev: alerted mailto ops@example.com" in failed.err
    assert TOKEN not in failed.err + failed.out and TOKEN not in told.run("config").out


def test_a_place_that_is_down_is_told_and_keeps_nobody(told: Project, hook: Receiver, mail: MailSink) -> None:
    hook.answer = 500
    began = time.monotonic()
    first, second = raise_alert(told.settings(), _alert())
    assert not first.ok and first.why == "HTTP 500" and second.ok
    assert len(hook.got) == 2  # it was tried twice
    assert time.monotonic() - began < 15
    told.variables["HOOK"] = "http://127.0.0.1:9/in/T0k3n-that-nobody-sees"
    told.configure()
    first, _ = raise_alert(told.settings(), _alert())
    assert first.why == "no answer (ConnectionRefusedError)"
    tested = told.run("alerts", "test", "--json")
    assert tested.code == 8
    assert [row["arrived"] for row in tested.document["deliveries"]] == [False, True]
    assert tested.document["without_server"] and TOKEN not in tested.out + tested.err


def test_without_a_bucket_each_is_told(told: Project, hook: Receiver) -> None:
    for _ in range(2):
        assert all(one.ok for one in raise_alert(told.settings(), _alert()))
    assert len(hook.subjects) == 2
    assert recovered(told.settings(), "dev", run_id="r", url=None) == ()  # nobody knows of anything


def test_nothing_arrives_twice_and_what_was_counted_comes_with_the_next(
    remembered: Project, hook: Receiver, mail: MailSink
) -> None:
    settings = remembered.settings()
    threads = [threading.Thread(target=raise_alert, args=(settings, _alert(run_id=f"run-{n}"))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hook.subjects == ["lockstep FAILED dev: 005-x failed"] and len(mail.got) == 1
    ((incident),) = open_incidents(settings, "dev")
    assert incident.repeats == 4

    raise_alert(settings, _alert(incident="other0000000"))  # another problem is told at once
    assert len(hook.got) == 2

    remembered.toml = remembered.toml.replace("[alerts]", "[alerts]\nrepeat_after = '1ms'")
    remembered.configure()
    raise_alert(remembered.settings(), _alert())
    assert hook.got[-1][1]["repeats"] == 4 and "it happened 4 times before" in hook.got[-1][1]["body"]


def test_recovery_is_told_once_and_by_the_same_kind_of_run(remembered: Project, hook: Receiver) -> None:
    settings = remembered.settings()
    raise_alert(settings, _alert())
    raise_alert(settings, _alert(incident="waiting00000", occasion="waiting"))
    assert recovered(settings, "dev", run_id="r1", url=None, source=STATUS) == ()
    assert recovered(settings, "prod", run_id="r1", url=None) == ()
    assert all(one.ok for one in recovered(settings, "dev", run_id="r1", url=None))
    assert recovered(settings, "dev", run_id="r2", url=None) == ()
    assert hook.subjects[2:] == ["lockstep recovered dev: deploy is well again: 005-x failed"]
    raise_alert(settings, _alert())  # it is a new one
    assert len(hook.subjects) == 4


def test_each_night_tells_what_is_new_and_what_is_over_and_nothing_else(
    remembered: Project, hook: Receiver, database: str
) -> None:
    remembered.toml += "[[health.ignore]]\ncheck = 'unsafe-settings'\nobject = '*'\nreason = 'tests'\n"
    remembered.configure()
    remembered.write("001-a.sql", "CREATE TABLE a (id bigint PRIMARY KEY);")
    assert remembered.run("init").code == 0 and remembered.run("sync").code == 0

    def night(seconds: float = 60) -> list[str]:
        settings, came = remembered.settings(), len(hook.subjects)
        found = overview(settings, tuple(settings.environments.values()), remembered.files(), seconds=seconds)
        watch(settings, of_overview(settings, found, run_id="r", url=None), run_id="r", url=None)
        return sorted(re.sub(r"127.0.0.1:\d+/\w+", "DB", subject) for subject in hook.subjects[came:])

    assert night() == []
    remembered.query("CREATE TABLE b (n int); ALTER TABLE b ADD CHECK (n > 0) NOT VALID")
    first = night()
    assert [subject.split(":")[0] for subject in first] == ["lockstep DRIFT dev", "lockstep UNHEALTHY dev"]
    assert first[0] == "lockstep DRIFT dev: dev (DB): table public.b was changed by hand"
    assert first[1].startswith("lockstep UNHEALTHY dev: warning: ") and "(unvalidated-constraint)" in first[1]
    assert night() == [] == night()

    remembered.urls["dev"] = server_gone = f"postgresql://app@127.0.0.1:{free_port()}/app"
    (gone,) = night(2)
    assert gone.startswith("lockstep FAILED dev: ") and night(2) == []  # nothing is over because nobody could look
    remembered.urls["dev"] = database
    assert server_gone not in gone and [subject.split(":")[1] for subject in night()] == [" status is well again"]
    assert night() == []

    remembered.query("CREATE TABLE c (id bigint PRIMARY KEY)")  # one more: only that one is told
    assert night() == ["lockstep DRIFT dev: dev (DB): table public.c was changed by hand"]
    remembered.query("DROP TABLE b")
    assert [subject.split(":")[0] for subject in night()] == ["lockstep recovered dev"]  # health; c is still there
    remembered.query("DROP TABLE c")
    (over,) = night()
    assert over.startswith("lockstep recovered dev: status is well again: dev (DB): table public.c")
    assert night() == [] and open_incidents(remembered.settings(), "dev") == ()


def test_a_ledger_that_is_gone_is_told_and_is_no_new_environment(remembered: Project, hook: Receiver) -> None:
    remembered.toml += "[[health.ignore]]\ncheck = 'unsafe-settings'\nobject = '*'\nreason = 'tests'\n"
    remembered.configure()
    remembered.write("001-a.sql", "CREATE TABLE a (id bigint PRIMARY KEY);")
    assert remembered.run("init").code == 0

    def night() -> tuple[str, list[str]]:
        settings, came = remembered.settings(), len(hook.subjects)
        found = overview(settings, tuple(settings.environments.values()), remembered.files(), seconds=6)
        watch(settings, of_overview(settings, found, run_id="r", url=None), run_id="r", url=None)
        (one,) = outcomes(found)
        return one.text, [subject for subject in hook.subjects[came:] if "ledger" in subject]

    remembered.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert night()[0].startswith("no ledger yet")  # nobody knows of an earlier one
    assert remembered.run("init").code == 0 and remembered.run("sync").code == 0
    assert remembered.run("backup", "dev").code == 0
    remembered.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    text, told = night()
    assert text.startswith("the ledger is gone: backup 20"), text
    assert len(told) == 1 and told[0].startswith("lockstep FAILED dev: dev (")
    assert night()[1] == []


def test_what_reached_nobody_is_told_again(remembered: Project, hook: Receiver) -> None:
    remembered.toml = remembered.toml.replace("'${HOOK}', '${MAIL}'", "'${HOOK}'")
    remembered.configure()
    hook.answer = 503
    assert not raise_alert(remembered.settings(), _alert())[0].ok
    hook.answer = 200
    assert raise_alert(remembered.settings(), _alert())[0].ok
    assert hook.got[-1][1]["repeats"] == 1


def test_only_the_chosen_occasions_are_told(told: Project, hook: Receiver) -> None:
    told.toml = told.toml.replace("[alerts]", "[alerts]\non = ['failed']")
    told.configure()
    assert raise_alert(told.settings(), _alert(occasion="waiting")) == ()
    assert raise_alert(told.settings(), replace(_alert(), occasion="failed"))


def test_a_sync_that_is_well_again_says_so(remembered: Project, hook: Receiver) -> None:
    remembered.run("init")
    bad = remembered.write("001-a.sql", "SELECT nothing;")
    assert remembered.run("sync").code == 6 and remembered.run("sync").code == 6
    bad.write_text("SELECT 1;")
    done = remembered.run("sync")
    assert done.code == 0 and "alerted webhook" in done.err
    assert [word.split(":")[0] for word in hook.subjects] == ["lockstep FAILED dev", "lockstep recovered dev"]
    assert remembered.run("sync").code == 0 and len(hook.subjects) == 2


def test_the_heartbeat_is_pinged_and_its_failure_is_told_without_its_address(told: Project, hook: Receiver) -> None:
    told.toml = told.toml.replace("[alerts]", "[alerts]\nheartbeat_url = '${BEAT}'")
    told.variables["BEAT"] = hook.url("/beat/0d1e2f3a4b5c")
    told.configure()
    assert heartbeat(told.settings()) is None and hook.got == [("/beat/0d1e2f3a4b5c", None)]
    hook.answer = 404
    assert heartbeat(told.settings()) == "HTTP 404"


@pytest.mark.parametrize("words", [["apply"], ["list"]])
def test_without_a_server_it_says_so(told: Project, words: list[str]) -> None:
    done = told.run("alerts", *words)
    assert "no Prefect server is configured" in done.err
    assert done.code == (2 if words == ["apply"] else 0)
    assert TOKEN not in done.out + done.err


def test_apprise_logs_no_address(told: Project, caplog: pytest.LogCaptureFixture) -> None:
    told.variables["HOOK"] = "https://127.0.0.1:9/x/T0k3n-that-nobody-sees?sig=s1gn4ture9"
    told.configure()
    raise_alert(told.settings(), _alert())
    assert "s1gn4ture9" not in caplog.text and "T0k3n" not in caplog.text
