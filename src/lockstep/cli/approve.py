"""Approve what a run waits to do. The answer is a row in the target's audit log, under the database role that you
connect with; then the run goes on by itself.

What you sign is one plan with the changes that its rehearsal made: if anything else would run by then, it is refused.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json, talk
from lockstep.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from lockstep.service.approval.answering import Answered

EXAMPLES = """\
  lockstep approve                                   what waits, when it is one run: shows it and asks
  lockstep approve 20261123-052152-9f67              this run, wherever it waits
  lockstep approve 20261123-052152-9f67 prod         on one of several environments
  lockstep approve 20261123-052152-9f67 --plan 1f3a9c --reason OPS-1234"""


def configure(parser: argparse.ArgumentParser) -> None:
    target(parser)
    parser.add_argument("--plan", metavar="DIGEST", help="refuse another plan than this one (its first digits will do)")
    parser.add_argument("--reason", metavar="TEXT", help="why, or a ticket's number, for the audit log")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def target(parser: argparse.ArgumentParser) -> None:
    """Which run, and where."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="its id, Prefect's id of it, or its address there")
    words.environments(parser)


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    return reply(arguments, context, approve=True)


def reply(arguments: argparse.Namespace, context: Context, *, approve: bool) -> ExitCode:
    """Find what waits, ask where somebody is there to answer, and write it."""
    from lockstep.core.approval import Standing
    from lockstep.service.approval.answering import answer_found, find_waiting
    from lockstep.service.approval.telling import terminal_text

    settings, run = context.settings, context.new_run()
    wanted, names = arguments.run, list(arguments.environments)
    if wanted in settings.environments:  # an environment alone: whatever waits there
        wanted, names = None, [wanted, *names]
    chosen = settings.chosen(names)
    found = find_waiting(
        settings,
        wanted,
        chosen if names else [one for one in chosen if one.protected],
        run,
        already=Standing.APPROVED if approve else Standing.REJECTED,
    )
    answered: list[Answered] = []
    for one in found:
        if not context.as_json:
            talk(terminal_text(one.target, one.approval), urgent=True)
        waits = one.approval.standing is Standing.WAITING  # else that answer was given before
        if approve and waits and not _sure(arguments, context, named=wanted is not None):
            raise UsageError("nothing was answered; the run waits on", hint="lockstep approve, or: lockstep reject")
        answered.append(
            answer_found(
                settings, one, run, approve=approve, reason=arguments.reason, plan=getattr(arguments, "plan", None)
            )
        )
    if context.as_json:
        body = {"answers": [_document(one) for one in answered]}
        if approve:
            show_json("approve", body)
        else:
            show_json("reject", body)
        return ExitCode.DONE
    for done in answered:
        request, answer = done.approval.request, done.approval.answer
        by = f" by {answer.by} ({answer.role})" if answer else ""
        show(f"{done.environment}: run {request.run_id} is {done.approval.standing.value}{by}")
        if done.asleep is not None:
            talk(f"  {done.asleep}", urgent=True)
    return ExitCode.DONE


def _sure(arguments: argparse.Namespace, context: Context, *, named: bool) -> bool:
    """A person at a terminal is asked. Where nobody is, to name the run, its plan, or --yes is an answer."""
    if arguments.yes or arguments.plan:
        return True
    if context.as_json or not sys.stdin.isatty():
        if named:
            return True
        raise UsageError("nobody is there to ask", hint="name the run, or give --yes")
    from lockstep.cli.asking import question

    answer = question("Approve it? [yes, no] ", lambda text: text in ("y", "yes", "n", "no"))
    return answer is not None and answer.lower() in ("y", "yes")


def _document(one: Answered) -> dict[str, object]:
    request, answer = one.approval.request, one.approval.answer
    return {
        "environment": one.environment,
        "run_id": request.run_id,
        "flow_run": request.flow_run,
        "standing": one.approval.standing.value,
        "migrations": request.what,
        "plan": request.plan_digest,
        "changes": request.change_digest,
        "backup": request.backup,
        "rehearsal": request.headline,
        "expires_at": request.expires_at,
        "by": answer.by if answer else None,
        "role": answer.role if answer else None,
        "reason": answer.reason if answer else None,
        "not_woken": one.asleep,
    }
