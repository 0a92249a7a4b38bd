"""The application's check after a run: a real HTTP server, real commands, and what of it may be told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lockstep.service import ailing
from lockstep.service.ailing import look, tell_new
from lockstep.service.progress import Silent
from tests.project import Project


@dataclass
class Application:
    """Answers each request with the next of its statuses, the last one for ever."""

    port: int = 0
    statuses: list[int] = field(default_factory=lambda: [200])
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Authorization
    drip: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/health"


@pytest.fixture
def application() -> Iterator[Application]:
    made = Application()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, self.headers.get("Authorization")))
            if made.drip:  # a header every now and then, for ever
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                for number in range(100):
                    try:
                        self.wfile.write(f"X-{number}: 1\r\n".encode())
                    except OSError:
                        return
                    time.sleep(0.1)
            status = made.statuses.pop(0) if len(made.statuses) > 1 else made.statuses[0]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://127.0.0.1:{made.port}/login?token=t0ken")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def events(project: Project) -> list[dict[str, object]]:
    return [row[0] for row in project.query("SELECT details FROM schema_migrations_log WHERE event = 'check'")]


def prepared(project: Project, check: str) -> Project:
    project.configure(dev=f"check = {{ {check} }}")
    assert project.run("init").code == 0
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    return project


def test_a_run_goes_on_once_the_application_answers(project: Project, application: Application) -> None:
    application.statuses = [503, 200]
    done = prepared(project, f'url = "{application.url}"').run("sync")
    assert done.code == 0, done.err
    assert "check  the application works" in done.err
    assert len(application.asked) == 2 and events(project) == [{"ok": True}]
    assert project.run("sync").code == 0 and len(application.asked) == 2  # nothing was applied: nothing to check


def test_an_application_that_stays_down_is_told_and_nothing_is_reverted(
    project: Project, application: Application
) -> None:
    application.statuses = [503]
    project.variables["HEALTH_URL"] = application.url.replace("//", "//probe:s3cr3t-pw@") + "?key=s3cr3t-key"
    done = prepared(project, 'url = "${HEALTH_URL}", within = "1s"').run("sync")
    assert done.code == 6
    assert f"the application's check failed: {application.url}?*** answers 503 (" in done.err
    assert "next: look at the application first, nothing was reverted: lockstep explain" in done.err
    assert project.query("SELECT count(*) FROM schema_migrations") == [(1,)]
    [found] = events(project)
    assert found["ok"] is False and "answers 503" in str(found["message"])
    assert application.asked[0] == ("/health?key=s3cr3t-key", "Basic cHJvYmU6czNjcjN0LXB3")
    shown = project.run("config").out
    assert "s3cr3t" not in done.err + str(found) + shown and f"{application.url}?***" in shown


def test_a_redirect_is_no_answer(project: Project, application: Application) -> None:
    application.statuses = [302]
    done = prepared(project, f'url = "{application.url}", within = "1ms"').run("sync")
    assert done.code == 6
    assert f"sends elsewhere, to http://127.0.0.1:{application.port}/login?***; redirects are not followed" in done.err
    assert {path for path, _ in application.asked} == {"/health"} and "t0ken" not in done.err


def test_an_answer_that_never_ends_is_not_waited_for(project: Project, application: Application) -> None:
    application.drip = True
    started = time.monotonic()
    done = prepared(project, f'url = "{application.url}", within = "500ms"').run("sync")
    assert done.code == 6 and "did not answer within 500 ms" in done.err
    assert time.monotonic() - started < 8  # it would drip for ten seconds


def test_nobody_there_is_said_as_such(project: Project) -> None:
    done = prepared(project, 'url = "http://127.0.0.1:1/health", within = "1ms"').run("sync")
    assert done.code == 6
    assert "http://127.0.0.1:1/health cannot be reached: Connection refused (1 try within 1 ms)" in done.err


def test_a_command_decides_by_its_exit_code(project: Project) -> None:
    project.variables["SMOKE_TOKEN"] = "t0ps3cr3t"
    words = '"sh", "-c", "echo first; echo $LOCKSTEP_ENVIRONMENT says \\"$0\\"; exit 3", "${SMOKE_TOKEN}"'
    done = prepared(project, f"command = [{words}]").run("sync")
    assert done.code == 6
    assert "the application's check failed: sh: exit code 3: dev says ***" in done.err
    assert "t0ps3cr3t" not in done.err
    project.write("002-b.sql", "CREATE TABLE b (id int);")
    project.configure(dev='check = { command = ["test", "-f", "lockstep.toml"] }')
    assert project.run("sync").code == 0  # in the project's folder
    assert [one["ok"] for one in events(project)] == [False, True]


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(project: Project) -> None:
    script = "sleep 300 & echo $! > child; echo waiting; wait"
    done = prepared(project, f'command = ["sh", "-c", "{script}"], within = "500ms"').run("sync")
    assert done.code == 6 and "sh did not end within 500 ms: waiting" in done.err
    child = int((project.folder / "child").read_text())
    deadline = time.monotonic() + 5
    while (state := _state(child)) not in ("", "Z"):
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ('url = "https://user:pw@app.example/health"', "holds a password"),
        ('url = "file:///etc/passwd"', "is no http address"),
        ('url = "https://app.example/", command = ["true"]', "needs a url or a command, one of the two"),
    ],
)
def test_a_check_that_cannot_be_one_is_refused_with_its_line(project: Project, check: str, said: str) -> None:
    project.configure(dev=f"check = {{ {check} }}")
    done = project.run("status")
    assert done.code == 2 and said in done.err and "lockstep.toml:" in done.err and ":pw@" not in done.err


class Told(Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, environment: str, text: str, *, urgent: bool = False) -> None:
        self.notes.append(f"{environment}: {text}")


def test_what_ails_the_target_since_the_run_is_told(project: Project) -> None:
    project.query("CREATE TABLE a (id int, n int); CREATE INDEX a1 ON a (n); CREATE INDEX a2 ON a (n)")
    settings, dev = project.settings(), project.environment()
    before = look(settings, dev)
    assert before.complete
    told = Told()
    tell_new(settings, dev, before, told)
    assert told.notes == []  # a2 was there before
    project.query("CREATE INDEX a3 ON a (id); CREATE INDEX a4 ON a (id)")
    tell_new(settings, dev, before, told)
    (found, more) = told.notes
    assert found.startswith("dev: new since the run: warning: public.a4: the same as public.a3")
    assert more == "dev: lockstep health dev shows all"


def test_a_look_that_takes_too_long_is_given_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ailing, "PATIENCE", 0.0)
    before = look(project.settings(), project.environment())
    assert not before.complete
    told = Told()
    tell_new(project.settings(), project.environment(), before, told)
    assert told.notes == []
