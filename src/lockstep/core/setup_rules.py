"""What `doctor` makes of single facts: clocks, TLS, modes of files, versions. Facts come as values; the words are here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from lockstep.core.address import is_local_host
from lockstep.core.checkup import Check, not_checked, ok, problem, warning
from lockstep.errors import ExitCode

SKEW_WARNING = 5.0  # seconds between two clocks
SKEW_PROBLEM = 900.0  # seconds: S3 refuses requests that were signed earlier or later than that

_FIRST_FASTAPI = (0, 151)  # docs/adr/0002-prefect.md


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """Another clock, read at some moment between two looks at our own."""

    before: datetime  # our clock when it was asked
    theirs: datetime
    after: datetime  # our clock when the answer was here
    step: timedelta = timedelta(0)  # what the other clock is cut to: it may be this much later than it says


def clock(reading: ClockReading, whose: str) -> Check:
    """Judge the difference of two clocks by what is certain of it: the answer's way and its rounding count for nothing."""
    earliest, latest = reading.theirs, reading.theirs + reading.step
    ahead = (earliest - reading.after).total_seconds()
    behind = (reading.before - latest).total_seconds()
    off = max(ahead, behind, 0.0)
    which = "ahead of" if ahead > behind else "behind"
    if off <= SKEW_WARNING:
        return ok(
            "clock", f"{whose} clock agrees with this machine's" + (f", {off:.1f} s {which} it" if off >= 1 else "")
        )
    text = f"{whose} clock is {_seconds(off)} {which} this machine's"
    remedy = "set the clock that is wrong (timedatectl shows whether one is synchronised)"
    if off <= SKEW_PROBLEM:
        return warning("clock", text, remedy)
    return problem("clock", f"{text}; signed requests are refused beyond 15 min", remedy, ExitCode.USAGE)


def _seconds(off: float) -> str:
    return f"{off:.0f} s" if off < 600 else f"{off:,.0f} s ({off / 60:,.0f} min)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How a session's bytes travel."""

    in_use: bool  # TLS between this machine and whoever answered
    mode: str  # libpq's sslmode, as the session was opened with; "": its default
    protocol: str | None  # TLSv1.3, as the server has it; None: not known (a pooler in between)
    cipher: str | None
    stays_here: bool  # the address does not lead to another machine
    bound: bool = False  # channel_binding=require: the password proves that nobody ends TLS in between
    client: str | None = None  # name in the client certificate that was shown


def tls(found: Encryption) -> Check:
    """Judge a session's TLS: whether anybody in between could read along or answer in the server's place."""
    how = " ".join(word for word in (found.protocol, found.cipher) if word)
    if not found.in_use:
        if found.stays_here:
            return ok("TLS", "none, and the connection does not leave this machine")
        return problem("TLS", "none: passwords and data travel in clear", "turn TLS on at the server", ExitCode.REFUSED)
    said = f"{how or 'in use'}, {found.mode or 'not verified'}"
    said += ", channel binding required" if found.bound else ""
    said += f", client certificate {found.client}" if found.client else ""
    if found.protocol in {"TLSv1", "TLSv1.1", "SSLv3"}:
        return warning("TLS", f"{said}: an outdated protocol", "set ssl_min_protocol_version = 'TLSv1.2' at the server")
    if found.mode == "verify-full" or found.stays_here:
        return ok("TLS", said)
    if found.mode == "verify-ca":
        return warning(
            "TLS", f"{said}: the server's name is not compared", "add sslmode=verify-full to the environment's URL"
        )
    return warning(
        "TLS",
        f"{said}: nobody verifies that it is the server",
        "add sslmode=verify-full and sslrootcert=FILE (its authority's certificate; system for a public one) to the URL",
    )


def endpoint(url: str | None) -> Check | None:
    """Judge how requests travel to a store's endpoint; None for AWS itself and for one on this machine."""
    if url is None or not url.lower().startswith("http://"):
        return None
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None  # another check says that it is no URL
    if is_local_host(host):
        return None
    return warning("TLS", "none: whoever is in between reads the backups", "use the endpoint's https:// address")


def secret_key_file(mode: int) -> Check | None:
    """Judge the mode of the file with the age secret key; None where only its owner and group may read it."""
    if not mode & 0o004:
        return None
    text = f"every user of this machine may read the file with the secret key (mode {mode & 0o777:03o})"
    return warning("secret key", text, "chmod 600 it; if others could, make a new pair and encrypt to that")


def env_file(*, mode: int, tracked: bool | None, ignored: bool | None) -> tuple[Check, ...]:
    """Judge `.env`: its mode, and whether version control has it, or could take it. None: no git to ask."""
    found: list[Check] = []
    if mode & 0o004:
        found.append(
            warning(".env", f"every user of this machine may read it (mode {mode & 0o777:03o})", "chmod 600 .env")
        )
    if tracked:
        found.append(
            problem(
                ".env",
                "it is tracked by git: everybody with the repository has what is in it",
                "git rm --cached .env; echo .env >> .gitignore; then change every password that was in it",
                ExitCode.USAGE,
            )
        )
    elif ignored is False:
        found.append(warning(".env", "git does not ignore it: one `git add .` publishes it", "echo .env >> .gitignore"))
    if found:
        return tuple(found)
    where = "no git repository" if tracked is None else "not tracked by git"
    return (ok(".env", f"mode {mode & 0o777:03o}, {where}"),)


def program_versions(name: str, programs: tuple[tuple[str, str, int], ...], server: str, server_minor: int) -> Check:
    """Judge programs (name, version, minor) of a server's own major: an older minor than the server's may dump less."""
    said = ", ".join(f"{program} {version}" for program, version, _ in programs)
    older = [program for program, _, minor in programs if minor < server_minor]
    if not older:
        return ok(name, said)
    return warning(
        name,
        f"{said}: older than the server ({server}), whose dumps they may not write whole",
        "update PostgreSQL's packages on this machine",
    )


def prefect_versions(prefect: str | None, fastapi: str | None, *, own_server: bool) -> Check:
    """Judge what is installed here. `own_server`: a deploy would start a server of its own in this environment."""
    if prefect is None:
        return warning("version", "Prefect is not installed: deploy is not available, sync is", "pip install prefect")
    if fastapi is not None and numbers(fastapi)[:2] >= _FIRST_FASTAPI:
        text = f"Prefect {prefect} does not start a server with FastAPI {fastapi}"
        remedy = "pip install 'fastapi<0.151'"
        return problem("version", text, remedy, ExitCode.USAGE) if own_server else warning("version", text, remedy)
    return ok("version", f"Prefect {prefect}" + (f", FastAPI {fastapi}" if fastapi else ""))


def prefect_server(server: str, client: str | None) -> Check:
    """Judge the server's version: Prefect supports clients that are not newer than their server."""
    if client is None or numbers(server)[:2] == numbers(client)[:2]:
        return ok("server version", server)
    text = f"{server}, and {client} is installed here"
    if numbers(server)[0] != numbers(client)[0]:
        return problem("server version", text, "install the same major version on both", ExitCode.USAGE)
    if numbers(server) < numbers(client):
        return warning("server version", f"{text}: older than its clients", "update the server first, then its clients")
    return ok("server version", text)


EVENTS_KEPT = timedelta(days=90)  # what we recommend, and deploy/env/server.env sets
RUNS_KEPT = timedelta(days=365)


def retention(events: timedelta, runs: timedelta | None) -> Check:
    """Judge how long Prefect's server keeps events, and runs with their logs and artifacts (None: for ever)."""
    said = f"events for {events.days} days, runs " + (f"for {runs.days} days" if runs is not None else "for ever")
    if runs is not None and runs < RUNS_KEPT:
        remedy = f"on the server: PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD={RUNS_KEPT.days * 86400}"
        return warning("retention", f"{said}: what the UI shows is gone sooner than in a year", remedy)
    if events < EVENTS_KEPT:
        remedy = f"on the server: PREFECT_SERVER_EVENTS_RETENTION_PERIOD=P{EVENTS_KEPT.days}D"
        return warning(
            "retention", f"{said}: what alerts were about is gone from the UI sooner than in a season", remedy
        )
    return ok("retention", said)


def duration(text: str) -> timedelta:
    """Read a duration as JSON has it: ISO 8601 (`P90D`, `PT1H30M`), or seconds. Raises ValueError."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text)
    if found is None:
        return timedelta(seconds=float(text))
    days, hours, minutes, seconds = found.groups(default="0")
    return timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def flows(changed: tuple[str, ...], *, laid_out_by: str | None, installed: str) -> Check:
    """Judge a project's flows and tasks: `changed` are the files that differ from those of the installed version."""
    if not changed:
        return ok("flows", f"those of Lockstep {installed}")
    names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    if laid_out_by == installed:
        return ok("flows", f"those of Lockstep {installed}, changed here: {names}")
    whose = f"of Lockstep {laid_out_by}" if laid_out_by else "of another version, or changed here"
    return warning(
        "flows",
        f"{names}: {whose}, and {installed} is installed",
        "take those of this version over: docs/how-to/upgrade.md",
    )


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 3.8.8rc1 -> (3, 8)."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found) or (0,)


def worker(online: tuple[tuple[str, datetime | None], ...], seen: int, now: datetime, pool: str) -> Check:
    """Judge a work pool's workers: those that are online with their last heartbeat, and how many were ever seen."""
    if not online:
        what = "a worker was here, and none is online" if seen else "no worker was ever here"
        return warning(
            "worker",
            f"{what}: nothing scheduled runs, and deploys run where they are called",
            f"prefect worker start --pool {pool}",
        )
    said = []
    for name, beat in online:
        age = f", heartbeat {max(0.0, (now - beat).total_seconds()):.0f} s ago" if beat else ""
        said.append(f"{name}{age}")
    return ok("worker", "online: " + "; ".join(said))


def room(free: int, needed: int | None, *, folder: str, what: str, shown: tuple[str, str]) -> Check:
    """Judge the disk for a restored backup. `shown` is both sizes in words; `needed` None: there is no backup yet."""
    if needed is None:
        return not_checked("disk", f"{shown[0]} free in {folder}; there is no backup yet to compare with")
    text = f"{shown[0]} free in {folder}; the newest backup of {what} restored takes about {shown[1]}"
    if free >= needed:
        return ok("disk", text)
    return warning("disk", f"{text}: it cannot be verified here", "set TMPDIR to a folder with more room")
