"""The `lockstep` command: finds the command's module, parses its words, turns errors into exit codes.

Start-up is imports, so only the called command's module is imported, and each of them imports its use case when it
runs. Nothing here imports Prefect, boto3 or psycopg.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from lockstep import __version__
from lockstep.cli.parser import SHARED, Parser, shared
from lockstep.errors import ExitCode, LockstepError

if TYPE_CHECKING:
    from lockstep.cli.context import Context

#: command -> (module, one line for --help). The order is that of a team's day.
COMMANDS = {
    "init": ("init", "create or upgrade the ledger"),
    "status": ("status", "which migration is where"),
    "plan": ("plan", "what a deploy would do, in order"),
    "validate": ("validate", "check the files alone: names, gaps, syntax, lint, missing downs"),
    "sync": ("sync", "apply what is pending, in promotion order, without Prefect"),
    "deploy": ("deploy", "the same through the Prefect flow of this project"),
    "approve": ("approve", "let a run that waits go on"),
    "reject": ("reject", "end a run that waits, with a reason"),
    "revert": ("revert", "take migrations back with their down scripts"),
    "rehearse": ("rehearse", "try the plan on a restored backup: locks, times, the way back"),
    "backup": ("backup", "back an environment's whole database up to S3"),
    "backups": ("backups", "list, verify and prune the backups in the bucket"),
    "restore": ("restore", "a backup into an empty database, or in the place of another one"),
    "drift": ("drift", "what others changed in a schema since Lockstep left it"),
    "diff": ("diff", "two environments' schemas against each other, object by object"),
    "health": ("health", "what a DBA would look at: keys, indexes, sessions, replication, …"),
    "history": ("history", "who applied what, when, and how long it took"),
    "explain": ("explain", "one run on one screen: what ran, why it stopped, the ways back"),
    "report": ("report", "one page about all of it: in step, proven, healthy, the last deploys"),
    "new": ("new", "start a migration: up and down skeletons with the next number"),
    "new-project": ("new_project", "start a project folder of your own"),
    "baseline": ("baseline", "declare what an existing database has already"),
    "repair": ("repair", "correct the ledger, explicitly and logged"),
    "alerts": ("alerts", "where alerts go, the server's part of them, and whether they arrive"),
    "doctor": ("doctor", "is everything set up: programs, TLS, pooler, roles, bucket, Prefect"),
    "config": ("config", "every configured value and where it comes from"),
    "completion": ("completion", "a script that lets your shell complete commands, options and names"),
}


def run() -> None:
    """Console entry point."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        from lockstep.cli.completing import answer

        answer()
    # Modules and rows stay until the end, so looking through them for garbage finds nothing: a tenth of a short call.
    gc.set_threshold(500_000, 20, 20)
    # SIGTERM ends like Ctrl-C: locks are let go, an upload is aborted, a transaction is rolled back.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _terminate)
    try:
        code = main(sys.argv[1:])
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()  # here, where a reader that has gone is no surprise
    except KeyboardInterrupt:
        _end_line("interrupted")
        code = 130
    except BrokenPipeError:
        # The reader of our output has gone (head, less). Not our failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    gc.freeze()  # nor does the interpreter have to look through them before it ends
    sys.exit(code)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    _end_line("terminated")
    raise SystemExit(143)


def _end_line(text: str) -> None:
    """Say how it ended, on a line of its own."""
    if (terminal := sys.modules.get("lockstep.cli.terminal")) is not None:
        terminal.clear()
    sys.stderr.write(f"\n{text}\n")


def main(argv: Sequence[str]) -> int:
    """Run one command line; return its exit code."""
    called = command_of(argv)
    if any("\0" in word or not _is_text(word) for word in argv):
        return _misused("one of the words of this call is not UTF-8", "lockstep --help")
    if argv and argv[0] in SHARED:
        return _misused(f"{argv[0]} stands behind the command", f"lockstep COMMAND {argv[0]} …")
    if called is not None and called not in COMMANDS:
        return _no_command(called)
    parser = parser_for(called, help_wanted=not {"-h", "--help"}.isdisjoint(argv))
    try:
        arguments = parser.parse_known_options(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    if arguments.command is None:
        parser.print_help()
        from lockstep.cli.hints import first_step

        sys.stdout.write(f"\n{first_step(Path())}\n")
        return int(ExitCode.USAGE)
    from lockstep.cli.context import Context
    from lockstep.cli.terminal import show_error, speak

    context = Context(project=Path(arguments.project), as_json=arguments.json)
    speak(quiet=arguments.quiet, as_json=arguments.json)
    module = import_module(f"lockstep.cli.{COMMANDS[arguments.command][0]}")
    try:
        if arguments.verbose:
            from lockstep.cli.verbose import listen

            listen()
        context.choose_zone(arguments.timezone)
        return int(module.execute(arguments, context))
    except LockstepError as error:
        contacts, runbook = context.people()
        return int(show_error(error, as_json=arguments.json, contacts=contacts, runbook=runbook))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            raise  # run() ends quietly
        return int(show_error(_unexpected(error, context), as_json=arguments.json, contacts=[], runbook=None))
    finally:
        if arguments.verbose:
            from lockstep.core.steps import listen as hear

            hear(None)  # whoever calls this again in one process asks anew


def _reader_has_gone() -> bool:
    """Whether it is our own output that nobody reads any more, and not a pipe to some program."""
    import select

    ends = select.poll()
    for stream in (sys.stdout, sys.stderr):
        ends.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))


def _unexpected(error: Exception, context: Context) -> LockstepError:
    """An error that nobody foresaw, without the secrets that its text may hold. LOCKSTEP_DEBUG=1 shows where."""
    import traceback

    from lockstep.core import privacy
    from lockstep.service.redaction import known_secrets, redact

    try:
        secrets = known_secrets(context.settings)
    except Exception:
        secrets = ()
    debug = os.environ.get("LOCKSTEP_DEBUG") == "1"
    if getattr(error, "sqlstate", None) == "57014" and not debug:
        from lockstep.errors import Cancelled

        return Cancelled(target=context.project.resolve().name)
    if not debug and _is_loss(error):
        from lockstep.errors import Unreachable

        return Unreachable(
            target=context.project.resolve().name,
            reason="the connection was lost",
            hint="try again; lockstep status shows what is applied",
        )
    # What a library or the server says may quote a value; which error it is does not.
    state = f" (SQLSTATE {state})" if (state := getattr(error, "sqlstate", None)) else ""
    said = f": {error}" if privacy.quoting() else state
    text = traceback.format_exc() if debug else f"unexpected {type(error).__name__}{said}"
    return LockstepError(
        redact(text.strip(), secrets),
        hint=None if debug else "run it again with LOCKSTEP_DEBUG=1 and report what it shows",
    )


def _is_loss(error: Exception) -> bool:
    """Whether a database's connection was lost, wherever that was noticed. Whoever asked knows better, and says so."""
    if "psycopg" not in sys.modules:
        return False
    import psycopg

    from lockstep.postgres.connection import is_lost

    return isinstance(error, psycopg.OperationalError) and is_lost(error)


def command_of(words: Sequence[str]) -> str | None:
    """Return the word that names the command."""
    return next((word for word in words if not word.startswith("-")), None)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # bytes that the shell handed over as they were
        return False
    return True


def _no_command(called: str) -> int:
    from lockstep.core.nearest import nearest

    close = nearest(called, COMMANDS)
    hint = f"did you mean: lockstep {close}?" if close else "lockstep --help lists the commands"
    return _misused(f"there is no command '{called}'", hint)


def _misused(message: str, hint: str) -> int:
    from lockstep.cli.terminal import show_problem, speak

    speak()
    show_problem(message, hint=hint)
    return int(ExitCode.USAGE)


def parser_for(called: str | None, *, help_wanted: bool = False) -> Parser:
    """The parser; only the called command's own options are added to it."""
    parser = Parser(
        prog="lockstep",
        description="Keeps every PostgreSQL environment of a team in step.",
        epilog="lockstep COMMAND --help shows a command's options and examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lockstep {__version__}")
    # With `prog` it need not format a usage line to find the name.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="lockstep")
    for name, (module_name, summary) in COMMANDS.items():
        if name != called:
            commands.add_parser(name, help=summary, add_help=False)
            continue
        module = import_module(f"lockstep.cli.{module_name}")
        command = commands.add_parser(
            name,
            help=summary,
            parents=[shared()],
            description=_description(module.__doc__) if help_wanted else module.__doc__,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
    return parser


def _description(text: str | None) -> str:
    """A module's docstring in lines of a terminal's width."""
    from textwrap import fill

    return "\n\n".join(fill(paragraph, 80) for paragraph in (text or "").strip().split("\n\n"))


if __name__ == "__main__":
    run()
