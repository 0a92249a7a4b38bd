"""Show the audit log: who applied, reverted, repaired or refused what, when, and how long it took.

It is read-only, but for `history prune ENV --before TIME`: that exports the oldest rows to the bucket and removes them,
and leaves an anchor, so that the chain still verifies.
"""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, width
from lockstep.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockstep.core.audit import KnownHead
    from lockstep.postgres.audit import LoggedEvent, Wanted

#: Characters of what an event is about: one long name must not widen every row.
WIDTH = 48
#: Characters of the details, which stand last and widen nothing. --json has them whole.
DETAILS = 200
#: Events or migrations that are shown where nobody says how many.
LIMIT = 15

PRUNE = "prune"

EXAMPLES = """\
  lockstep history                  the newest events of every environment
  lockstep history prod -n 100      more of one
  lockstep history --migration 17   what became of one migration, everywhere
  lockstep history prod --event fail --since 30d
  lockstep history --csv > log.csv  all of it, for a spreadsheet
  lockstep history --stats          times per migration, runs, waits
  lockstep history prod --verify    the hash chain, and the ends that backups saw; exit 4 when broken
  lockstep history prune prod --before 400d --dry-run
                                    which rows would be exported and removed"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "lockstep history [options] [ENV ...]\n       lockstep history prune ENV --before TIME [options]"
    parser.add_argument(
        "environments",
        nargs="*",
        metavar="ENV",
        help="environments of lockstep.toml (default: all); behind the word `prune` exactly one",
    )
    parser.add_argument(
        "-n", "--limit", type=words.count, metavar="N", help=f"how many events (default {LIMIT}; with --csv all)"
    )
    parser.add_argument("--actor", metavar="ROLE", help="only what this role did")
    parser.add_argument("--run", metavar="RUN", help="only what belongs to this run")
    parser.add_argument("--migration", metavar="NAME", help="only what is about this migration (name or version)")
    parser.add_argument("--event", metavar="EVENT", help="only events of this kind, such as apply, fail, repair")
    parser.add_argument("--since", metavar="TIME", help="only from then on: 2026-11-24, 2026-11-24T10:15 (UTC), 7d")
    parser.add_argument("--until", metavar="TIME", help="only before then")
    parser.add_argument("--csv", action="store_true", help="print comma separated values, every column")
    parser.add_argument("--stats", action="store_true", help="times per migration, of whole runs, and of waiting")
    parser.add_argument(
        "--verify", action="store_true", help="verify the whole log: its chain, and the ends that backups saw"
    )
    parser.add_argument(
        "--head", type=_head, metavar="ROW:HASH", help="with --verify: this is how the log once ended (run reports say)"
    )
    parser.add_argument("--before", metavar="TIME", help="prune: remove rows that are older (forms as for --since)")
    parser.add_argument("--dry-run", action="store_true", help="prune: only say what would be done")
    parser.add_argument("--reason", metavar="TEXT", help="prune: why; it goes into the anchor")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    if arguments.environments[:1] == [PRUNE]:
        _refuse_ambiguous(arguments, context)
        _refuse(arguments, "history prune", ("limit", *_FILTERS, "until", "since", "csv", "stats", "verify", "head"))
        from lockstep.cli import history_prune

        return history_prune.execute(arguments, context)
    _refuse(arguments, "history without the word prune", ("before", "dry_run", "reason"))
    if arguments.csv and context.as_json:
        raise UsageError("--csv and --json are two forms of one thing; choose one")
    if arguments.verify:
        _refuse(arguments, "--verify", (*_FILTERS, "until", "limit", "csv", "stats"))
        from lockstep.cli import history_verify

        return history_verify.execute(arguments, context)
    _refuse(arguments, "history without --verify", ("head",))
    if arguments.stats:
        _refuse(arguments, "--stats", (*_FILTERS, "csv"))
        from lockstep.cli import history_stats

        return history_stats.execute(arguments, context)
    return _list(arguments, context)


_FILTERS = ("actor", "run", "migration", "event")


def _list(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.history import history

    now = datetime.now(UTC)
    wanted = _wanted(arguments, now)
    limit = arguments.limit or (None if arguments.csv else LIMIT)
    found = [
        history(context.settings, environment, limit=limit, wanted=wanted)
        for environment in context.settings.chosen(arguments.environments)
    ]
    if context.as_json:
        show_json("history", {"environments": found})
    elif arguments.csv:
        import sys

        from lockstep.core.csvtext import csv_text

        rows = [_csv_row(one.environment, event) for one in found for event in one.events]
        # The line ends are CRLF already.
        sys.stdout.write(csv_text(rows, header=CSV))
    else:
        from lockstep.core.text import printable

        for one in found:
            show(printable(one.target))
            show(table(one.events, now) if one.events else "no event of the log is one of these")
            show("")
    return ExitCode.DONE


def _wanted(arguments: argparse.Namespace, now: datetime) -> Wanted:
    from lockstep.postgres.audit import Wanted

    since, until = moment(arguments.since, "--since", now), moment(arguments.until, "--until", now)
    if since is not None and until is not None and until <= since:
        raise UsageError(f"--until {arguments.until} is not after --since {arguments.since}")
    return Wanted(
        actor=arguments.actor,
        run_id=arguments.run,
        event=arguments.event,
        migration=arguments.migration,
        since=since,
        until=until,
    )


def moment(text: str | None, option: str, now: datetime) -> datetime | None:
    """Return the time that an option means. Raises UsageError."""
    from lockstep.core.period import parse_moment

    if text is None:
        return None
    try:
        return parse_moment(text, now)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _refuse(arguments: argparse.Namespace, what: str, options: Sequence[str]) -> None:
    """Raise UsageError for an option that would be passed over in silence."""
    for name in options:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} is nothing for {what}", hint="lockstep history --help")


def _refuse_ambiguous(arguments: argparse.Namespace, context: Context) -> None:
    """An environment may be called prune; it must not be pruned, nor shown, by mistake."""
    if PRUNE in context.settings.environments and len(arguments.environments) == 1:
        raise UsageError(
            "'prune' is a word of `lockstep history` and an environment as well",
            hint="lockstep history shows all environments; lockstep history prune prune --before TIME prunes that one",
        )


def _head(text: str) -> KnownHead:
    from lockstep.core.audit import KnownHead

    match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{12,64})", text.strip().lower())
    if match is None:
        _no_head(text)
    return KnownHead(number=int(match[1]), hash=match[2], at=None, source="--head")


def _no_head(text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(
        f"'{text}' is no end of a log; write its row and hash, for example 42:f3fe449b970c (12 characters or more)"
    )


# -- as a table, as comma separated values ----------------------------------------------------------------------------

CSV = (
    "environment", "id", "at", "event", "actor", "host", "run_id", "orchestrator_url", "migration_name", "version",
    "duration_ms", "details", "previous_hash", "hash",
)  # fmt: skip


def _csv_row(environment: str, e: LoggedEvent) -> list[str | int | None]:
    import json

    return [
        environment, e.id, e.at.astimezone(UTC).isoformat(), e.event, e.actor, e.host, e.run_id, e.orchestrator_url,
        e.migration_name, e.version, e.duration_ms, json.dumps(dict(e.details), ensure_ascii=False), e.previous_hash, e.hash,
    ]  # fmt: skip


def table(events: Sequence[LoggedEvent], now: datetime) -> str:
    """Return the events as a table; the last column is there when one of them has details that a person looks for."""
    from lockstep.core.auditwords import about, more
    from lockstep.core.duration import format_ms
    from lockstep.core.migration import label
    from lockstep.core.moments import format_moment
    from lockstep.core.table import render_table
    from lockstep.core.text import printable

    rows = [
        [
            str(e.id),
            format_moment(e.at, now),
            e.event,
            _short(label(e.migration_name) if e.migration_name else about(e.event, e.details), WIDTH),
            format_ms(e.duration_ms),
            e.actor,
            e.run_id or "",
            _short(more(e.event, e.details), DETAILS),
        ]
        for e in events
    ]
    rows = [[printable(cell) for cell in row] for row in rows]
    headers = ["#", "when", "event", "what", "took", "by", "run", "details"]
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return render_table(headers, rows, width=width())


def _short(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
