"""What the morning is told: all environments at once, each within its time, and what each comes to."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from lockstep.errors import LockstepError
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.throwaway import ThrowawayServer
from lockstep.service.answers import answers
from lockstep.service.morning import overview_markdown
from lockstep.service.outcome import Grade, outcomes
from lockstep.service.overview import EnvironmentOverview, Overview, Unseen, overview
from lockstep.service.page.answers import answers as page_answers
from lockstep.service.page.gathering import gather
from lockstep.service.page.history import history_artifacts
from lockstep.service.worksession import work_session
from tests.integration.proxy import CountingProxy
from tests.project import Project

#: The tests' server forgets what a crash would take: that is no trouble here.
IGNORED = "[[health.ignore]]\ncheck = 'unsafe-settings'\nobject = '*'\nreason = 'a server for tests'\n"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as listener:
        yield listener.getsockname()[1]


def test_neither_a_black_hole_nor_a_wrong_password_hides_the_others(
    server: ThrowawayServer, project: Project, new_database: Callable[[], str], silent: int
) -> None:
    """Eighteen good rows and two clear ones, and no look takes longer than it may."""
    good = [f"t{number:02d}" for number in range(1, 19)]
    project.urls = {name: new_database() for name in good}
    project.configure()
    assert project.run("init", *good).code == 0
    project.urls["hole"] = f"postgresql://app@127.0.0.1:{silent}/app?connect_timeout=3"
    project.urls["locked"] = server.url(password="wr0ng-passw0rd")
    project.toml = IGNORED
    project.configure()
    settings = project.settings()
    began = time.monotonic()
    found = overview(settings, tuple(settings.environments.values()), project.files())
    assert time.monotonic() - began < 60
    every = {one.environment: one for one in outcomes(found)}
    assert [name for name, one in every.items() if one.grade is Grade.GOOD] == good
    assert every["hole"].text == "cannot be reached: connection timeout expired"
    assert every["locked"].text.startswith("cannot be reached: FATAL: password authentication failed for user")
    text = overview_markdown(found)
    assert text.startswith(
        "**In step? No.** hole: cannot be reached: connection timeout expired; locked: cannot be reached"
    )
    assert "wr0ng" not in text

    began = time.monotonic()  # whatever hangs is given up
    late = overview(settings, (settings.environment("hole"),), project.files(), seconds=1)
    assert time.monotonic() - began < 3
    assert outcomes(late)[0].sentence == "cannot be reached: no answer within 1 s → lockstep doctor hole"


def test_the_first_lines_say_what_is_wrong_and_hostile_names_stay_text(
    project: Project, new_database: Callable[[], str]
) -> None:
    hostile = 'a|b"`x`<img src=x onerror=alert(1)>[l](http://evil.example)'
    project.urls["prod"] = new_database()
    project.toml = IGNORED
    project.configure(prod="after = ['dev']\nprotected = false\n")
    project.write("001-first.sql", "CREATE TABLE first (id bigint PRIMARY KEY);")
    assert project.run("init").code == 0 and project.run("sync").code == 0
    settings = project.settings()
    chosen = tuple(settings.environments.values())
    found = overview(settings, chosen, project.files())
    assert [(one.question, one.word) for one in answers(found)] == [
        ("In step?", "Yes"), ("Proven?", "Yes"), ("Healthy?", "Yes"),
    ]  # fmt: skip
    assert [pair.differences for pair in found.parity] == [0]

    quoted = '"' + hostile.replace('"', '""') + '"'
    project.query(f"CREATE TABLE public.{quoted} (id int)", "prod")
    project.write("002-second.sql", "SELECT 1;")
    found = overview(settings, chosen, project.files())
    dev, prod = outcomes(found)
    assert (dev.grade, dev.command) == (Grade.DUE, "lockstep sync dev")
    assert (prod.grade, prod.command) == (Grade.WRONG, "lockstep drift prod")
    assert prod.text.startswith("drift: table public.") and prod.text.endswith("(and 1 more: files)")
    text = overview_markdown(found)
    assert text.startswith("**In step? No.** prod: drift: table public")
    assert not re.search(r"(?<!\\)(<|\[|`x)|http://", text)
    assert "### Look at\n\n- **prod** (" in text and "### Due\n\n- **dev** (" in text


def test_what_could_not_be_looked_at_is_named_and_what_was_seen_is_kept(project: Project) -> None:
    project.toml = IGNORED
    project.configure()
    assert project.run("init").code == 0 and project.run("sync").code == 0
    settings = project.settings()
    with psycopg.connect(project.urls["dev"]) as other:
        other.execute("LOCK TABLE schema_migrations_states IN ACCESS EXCLUSIVE MODE")
        (one,) = overview(settings, tuple(settings.environments.values()), project.files()).environments
    assert one.error is None and one.status.initialised and one.health is not None
    assert [each.part for each in one.unseen] == ["drift"]
    (found,) = outcomes(overview_of(one))
    assert found.grade is Grade.WRONG and found.text.startswith("drift could not be looked at: dev (")


def test_the_page_and_the_charts_wait_for_nobody_who_fell_silent(
    server: ThrowawayServer, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.run("init").code == 0 and project.run("sync").code == 0
    settings, folder = project.settings(), project.files()
    chosen = tuple(settings.environments.values())
    seen = overview(settings, chosen, folder)
    for module in ("gathering", "history"):
        monkeypatch.setattr(f"lockstep.service.page.{module}.PATIENCE", 2.0)
    with CountingProxy(server.port, frozen=b"schema_migrations_log") as proxy:
        project.urls["dev"] = project.urls["dev"].replace(f":{server.port}/", f":{proxy.port}/")
        settings = project.settings()
        chosen = tuple(settings.environments.values())
        facts = gather(settings, chosen, folder, rows=3, seen=seen)
        artifacts = history_artifacts(settings, chosen)
    assert "within 2 s" in facts.log_errors["dev"].message
    assert [(name, "within 2 s" in error.message) for name, error in artifacts.unread] == [("dev", True)]


def overview_of(one: EnvironmentOverview) -> Overview:
    return Overview(at=datetime.now(UTC), environments=(one,))


def test_what_nobody_could_see_is_no_yes(project: Project, new_database: Callable[[], str]) -> None:
    """A schema that is not compared because a run is at work, checks that were not judged, a parity that broke off."""
    project.urls["prod"] = new_database()
    project.toml = IGNORED
    project.configure(prod="after = ['dev']\nprotected = false\n")
    project.write("001-first.sql", "CREATE TABLE first (id bigint PRIMARY KEY);")
    assert project.run("init").code == 0 and project.run("sync").code == 0
    project.query("CREATE TABLE by_hand (id int)", "prod")
    settings, folder = project.settings(), project.files()
    chosen = tuple(settings.environments.values())
    with work_session(settings, project.environment("prod"), RunInfo(run_id="at-work")):
        busy = overview(settings, chosen, folder)
    in_step = answers(busy)[0]
    assert (in_step.word, in_step.text) == ("Not yet", "prod: a run is at work, so its schema was not compared")
    page = page_answers(gather(settings, chosen, folder, rows=3, seen=busy))
    assert (page[0].word, page[0].text) == ("Not yet", "prod: a run is at work, so its schema was not compared.")

    broken = replace(busy, unseen=(Unseen(part="parity", error=LockstepError("it broke off")),), environments=())
    assert answers(broken)[0].word == "Not known"
    assert page_answers(gather(settings, (), folder, rows=3, seen=broken))[0].word == "Not known"

    project.toml = "[health]\ntimeout = '1ms'\n" + IGNORED
    project.configure(prod="after = ['dev']\nprotected = false\n")
    hasty = overview(project.settings(), chosen, folder)
    assert answers(hasty)[2].word == "Not known" and "not judged: " in answers(hasty)[2].text
    assert page_answers(gather(settings, (), folder, rows=3, seen=hasty))[2].word == "Not known"
