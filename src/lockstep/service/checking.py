"""After applying: does the application still work? Its own address is asked, or a command of the team's is run.

A check that fails changes nothing by itself: it is told, with the measured ways back, and logged. What the address or
the command answers is never shown but for the command's last line, redacted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import IO, TYPE_CHECKING

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.counting import counted
from lockstep.core.duration import format_ms, parse_duration
from lockstep.core.rehearsal.waysback import way_lines
from lockstep.core.text import printable
from lockstep.errors import CheckFailed, ConfigError, LockstepError
from lockstep.postgres.audit import Event, write_event
from lockstep.postgres.connection import open_session
from lockstep.postgres.entries import RunInfo
from lockstep.service.progress import Progress
from lockstep.service.project import target_of
from lockstep.service.redaction import known_secrets, redact
from lockstep.settings import VARIABLE, shown_url

if TYPE_CHECKING:
    from lockstep.service.syncing import EnvironmentResult

PER_TRY = 10.0  # seconds that one request may take, to its status line
_BETWEEN = (0.2, 0.5, 1.0, 2.0)  # seconds between tries; the last one from then on
_KEPT = 8_192  # bytes of a command's output, from its end
_SHOWN = 200  # characters of its last line


def run_check(
    settings: Settings, environment: Environment, run: RunInfo, progress: Progress, *, ways_back: Sequence[str] = ()
) -> None:
    """Run the environment's check, if it has one; log what came of it. Nothing of the database's is changed.

    A url is asked until it answers 2xx or `within` is over; a command runs once, for as long. `ways_back`: in words.
    Raises CheckFailed, and ConfigError for a variable that is not set.
    """
    check = environment.table.check
    if check is None:
        return
    name, key = environment.name, f"environments.{environment.name}.check"
    seconds = parse_duration(check.within) / 1_000
    progress.started(name, "check")
    started = time.monotonic()
    if check.url is not None:
        problem = _ask(settings.resolved(check.url, f"{key}.url"), seconds, progress, name)
    else:
        words = [settings.resolved(word, f"{key}.command") for word in check.command]
        problem = _command(settings, environment, words, seconds)
    ms = round((time.monotonic() - started) * 1_000)
    _log(settings, environment, run, progress, problem, ms)
    if problem is not None:
        target = target_of(settings, environment, with_settings=False).name
        raise CheckFailed(target=target, reason=problem, ways_back=tuple(ways_back), hint=_hint(run))
    progress.finished(name, "check", "the application works", ms)


def check_applied(
    settings: Settings, environment: Environment, run: RunInfo, progress: Progress, result: EnvironmentResult
) -> None:
    """Run the check after a deploy, with the ways back that its rehearsal measured. Raises as `run_check` does."""
    rehearsal = result.rehearsal.rehearsal if result.rehearsal else None
    run_check(settings, environment, run, progress, ways_back=way_lines(rehearsal.ways_back) if rehearsal else ())


def _hint(run: RunInfo) -> str:
    return f"look at the application first, nothing was reverted: lockstep explain {run.run_id}"


# -- an address ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Answer:
    """What became of one request."""

    ok: bool = False
    text: str = ""  # why not; "" while nothing is known


def _ask(url: str, seconds: float, progress: Progress, name: str) -> str | None:
    """Return why it is not well, or None. The last answer of all tries counts."""
    shown = shown_url(url)
    until = time.monotonic() + seconds
    tries = 0
    while True:
        tries += 1
        answer = _get(url, max(0.1, min(PER_TRY, until - time.monotonic())))
        if answer.ok:
            return None
        pause = _BETWEEN[min(tries, len(_BETWEEN)) - 1]
        if time.monotonic() + pause >= until:
            return f"{shown} {answer.text} ({counted(tries, 'try', 'tries')} within {format_ms(seconds * 1_000)})"
        progress.under_way(name, "check", f"{shown} {answer.text}")
        time.sleep(pause)


def _get(url: str, timeout: float) -> _Answer:
    """Ask once. In a thread, since a server that answers a byte now and then would outlast any socket's timeout."""
    answer = _Answer()
    thread = Thread(target=_request, args=(url, timeout, answer), daemon=True)
    thread.start()
    thread.join(timeout + 0.5)
    if not answer.ok and not answer.text:
        return _Answer(text=f"did not answer within {format_ms(timeout * 1_000)}")
    return answer


def _request(url: str, timeout: float, answer: _Answer) -> None:
    from base64 import b64encode
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.parse import unquote, urlsplit, urlunsplit
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        """A redirect is no answer: a login page elsewhere would say 200 for an application that is down."""

        def redirect_request(self, *_: object) -> None:
            return None

    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            answer.text = "is no http address"
            return
        headers = {"User-Agent": "lockstep-check", "Cache-Control": "no-cache"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        with build_opener(Stay).open(Request(plain, headers=headers), timeout=timeout) as response:
            answer.ok = 200 <= response.status < 300
            answer.text = "" if answer.ok else f"answers {response.status}"
    except HTTPError as error:
        error.close()
        where = error.headers.get("Location") if 300 <= error.code < 400 else None
        answer.text = f"answers {error.code}" + (
            f" and sends elsewhere, to {printable(shown_url(where))[:_SHOWN]}; redirects are not followed"
            if where
            else ""
        )
    except URLError as error:
        answer.text = f"cannot be reached: {_reason(error.reason)}"
    except (OSError, HTTPException, ValueError) as error:
        answer.text = f"cannot be reached: {_reason(error)}"


def _reason(error: object) -> str:
    """Why, without a text that may hold the address as it stands."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if (verify := getattr(error, "verify_message", None)) is not None:
        return f"its certificate: {verify}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, Exception) else "no connection"


# -- a command -----------------------------------------------------------------------------------------------------


def _command(settings: Settings, environment: Environment, words: Sequence[str], seconds: float) -> str | None:
    """Run it once in the project's folder, without a shell; return why it is not well, or None."""
    shown = environment.table.check.command[0] if environment.table.check else ""
    try:
        process = subprocess.Popen(
            list(words),
            cwd=settings.folder,
            env={**os.environ, "LOCKSTEP_ENVIRONMENT": environment.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all that it starts can be ended with it
        )
    except (OSError, ValueError) as error:
        return f"{shown} cannot be run: {_reason(error)}"
    assert process.stdout is not None
    tail = bytearray()
    reader = Thread(target=_read, args=(process.stdout, tail), daemon=True)
    reader.start()
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it left running, too
        process.wait()
        reader.join(1.0)
    if code == 0:
        return None
    said = f": {line}" if (line := _last_line(settings, environment, bytes(tail))) else ""
    if code is None:
        return f"{shown} did not end within {format_ms(seconds * 1_000)}{said}"
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{shown}: {how}{said}"


def _read(stream: IO[bytes], tail: bytearray) -> None:
    with stream, suppress(OSError, ValueError):
        while block := os.read(stream.fileno(), 65_536):
            tail += block
            del tail[:-_KEPT]


def _last_line(settings: Settings, environment: Environment, output: bytes) -> str:
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    used = [name for word in environment.table.check.command for name in VARIABLE.findall(word)]  # type: ignore[union-attr]
    own = [value for name in used if len(value := settings.variables.get(name, "")) > 2]
    text = redact(lines[-1], sorted({*known_secrets(settings), *own}, key=len, reverse=True))
    text = printable(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


# -- the log -------------------------------------------------------------------------------------------------------


def _log(
    settings: Settings, environment: Environment, run: RunInfo, progress: Progress, problem: str | None, ms: int
) -> None:
    """Write it into the target's audit log. Trouble with the log hides nothing."""
    details = {"ok": problem is None} | ({"message": problem} if problem else {})
    event = Event(
        event="check", run_id=run.run_id, orchestrator_url=run.orchestrator_url, duration_ms=ms, details=details
    )
    try:
        session = open_session(target_of(settings, environment, with_settings=False), run_id=run.run_id)
        try:
            write_event(session, event)
        finally:
            session.close()
    except ConfigError:
        raise
    except (psycopg.Error, LockstepError):
        progress.note(environment.name, "the check is not in the audit log, which could not be written")
