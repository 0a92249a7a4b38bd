"""Bring environments up to date through this project's Prefect flow, which leaves a record that everybody can see.

Where a Prefect server has this project's deployment and a worker polls, the worker runs it and its progress is shown
here; Ctrl-C then leaves it running. Else the flow runs in this process. What runs is the plan that was made here: a
worker whose own plan is another one refuses.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.asking import prompt_of
from lockstep.cli.context import Context
from lockstep.cli.terminal import error_document, show, show_json, talk, teller
from lockstep.errors import ExitCode, LockstepError

if TYPE_CHECKING:
    from lockstep.service.approval.prompting import Prompt
    from lockstep.service.orchestrator import Ended, Following, Place
    from lockstep.service.planning import TargetPlan

EXAMPLES = """\
  lockstep deploy                          everything, dev before prod
  lockstep deploy dev --to 12              one environment, up to version 12
  lockstep deploy --dry-run                only plan, store what would run
  lockstep deploy prod --reason OPS-1234   the reason goes into the report
  lockstep deploy prod --approve OPS-1234  approved beforehand, for this reason
  lockstep deploy --here                   in this process, not in a worker"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    words.selection(parser)
    parser.add_argument("--dry-run", action="store_true", help="only plan; nothing is changed")
    parser.add_argument("--reason", metavar="TEXT", help="why, or a ticket's number, for the report")
    words.overriding(parser)
    words.approving(parser)
    parser.add_argument("--here", action="store_true", help="run in this process, whatever the server offers")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from lockstep.service.planning import plan_target
    from lockstep.service.syncing import refuse_held, summary

    chosen = context.settings.chosen(arguments.environments)
    plans = [
        plan_target(context.settings, one, context.folder, to_version=arguments.to, include=arguments.include)
        for one in chosen
    ]
    if not any(one.plan.steps for one in plans):
        for one in plans:
            refuse_held(one.target, one.plan)
        if context.as_json:
            show_json("deploy", _document(None, None, plans))
        else:
            show(summary({}, whole=len(chosen) == len(context.settings.environments)))
        return ExitCode.DONE
    return _deploy(arguments, context, plans)


def _deploy(arguments: argparse.Namespace, context: Context, plans: list[TargetPlan]) -> ExitCode:
    from lockstep.service import orchestrator
    from lockstep.service.deploying import error_of, expected_plans, run_name

    orchestrator.quiet()
    parameters: dict[str, Any] = {
        "environments": [one.environment for one in plans],
        "to_version": arguments.to,
        "include": arguments.include or None,
        "dry_run": arguments.dry_run,
        "reason": arguments.reason,
        "override": arguments.override,
        "expected_plans": expected_plans(plans),
    }
    files = {one.environment: [step.name for step in one.plan.steps] for one in plans}
    name = run_name("plan" if arguments.dry_run else "deploy", list(files), files)
    place = orchestrator.find_place(context.settings.folder, look_for_deployment=not arguments.here)
    say = _Speech(silent=context.as_json)
    prompt = prompt_of(arguments, context.settings, silent=context.as_json)
    if place.deployment is not None:
        ended = _there(context, place, parameters, name, say, prompt)
    else:
        ended = _here(context, place, parameters, name, say, prompt)
    error = None if ended.ok else error_of(ended.labels, ended.message)
    if context.as_json:
        show_json("deploy", _document(place, ended, plans, error))
        return error.exit_code if error else ExitCode.DONE
    if error is not None:
        raise error
    show(f"{ended.message}, run {ended.run_id}")
    return ExitCode.DONE


class _Speech:
    """What is told beside the result: nothing with --json."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent

    def __call__(self, text: str, *, urgent: bool = False) -> None:
        if not self.silent:
            talk(text, urgent=urgent)


def _there(
    context: Context, place: Place, parameters: dict[str, Any], name: str, say: _Speech, prompt: Prompt | None
) -> Ended:
    from lockstep.service.orchestrator import Following

    deployment = place.deployment
    assert deployment is not None
    run = None if parameters["dry_run"] else Following.find(deployment, parameters["expected_plans"])
    if run is not None:
        say(f"{run.name}: this deploy is under way already, by the deployment {deployment.name} of {place.server}")
    else:
        say(f"{name}: by the deployment {deployment.name} of {place.server}, with the files of {deployment.files}")
        run = Following.start(deployment, parameters, name)
        _say_who(context, run, parameters["environments"])
    try:
        if run.url:
            say(f"  {run.url}")
        for line in run.lines(
            lambda: say("still waiting: no worker has taken the run yet"),
            lambda run_id: _answer(context, run_id, say, prompt),
        ):
            say(line)
        return run.end()
    except KeyboardInterrupt:
        say(f"\nthe run goes on: {run.url}\n  to stop it: prefect flow-run cancel {run.id}")
        raise


def _say_who(context: Context, run: Following, environments: Sequence[str]) -> None:
    """Where two people are needed, let the audit logs know who started it: under the database role of this process."""
    settings = context.settings
    if not settings.approval.two_person:
        return
    from lockstep.postgres.entries import RunInfo
    from lockstep.service.approval.signing import note_start

    for name in environments:
        if (environment := settings.environment(name)).protected:
            note_start(settings, environment, RunInfo(run_id=run.run_id, orchestrator_url=run.url))


def _answer(context: Context, run_id: str, say: _Speech, prompt: Prompt | None) -> None:
    """A run began to wait for approval: answer for it where whoever is here can, over a connection of this process."""
    from lockstep.core.approval import How
    from lockstep.service.approval.answering import answer_found, find_waiting, looking
    from lockstep.service.approval.prompting import Beforehand

    if prompt is None:
        say(f"it waits for approval: lockstep approve {run_id}  (Ctrl-C leaves it waiting)", urgent=True)
        return
    run = context.new_run()
    try:
        for found in find_waiting(context.settings, run_id, context.settings.chosen([]), run):
            with looking(context.settings, found, run):
                given = prompt(found.approval)
            if given is None:
                say(f"it waits on: lockstep approve {run_id}  (Ctrl-C leaves it waiting)", urgent=True)
                continue
            answered = answer_found(
                context.settings, found, run, approve=given[0], reason=given[1],
                how=How.FLAG if isinstance(prompt, Beforehand) else How.COMMAND,
            )  # fmt: skip
            if answered.asleep is not None:
                say(answered.asleep, urgent=True)
    except LockstepError as error:
        say(f"this answer does not count: {error.message}", urgent=True)


def _here(
    context: Context, place: Place, parameters: dict[str, Any], name: str, say: _Speech, prompt: Prompt | None
) -> Ended:
    from lockstep.service.orchestrator import run_here

    folder = context.settings.folder
    say(f"{name}: in this process ({place.why_here}), with the files of {folder}")
    if place.server is None:
        say("  starting a temporary Prefect for its records; this takes some seconds")
    # The flow finds its project from its own file; what holds for this process must hold for it too.
    try:
        return run_here(
            folder,
            {**parameters, "project": os.fspath(folder)},
            server=place.server is not None,
            handler=_Lines(silent=say.silent),
            started=lambda _, url: say(f"  {url}") if url else None,
            prompt=prompt,
        )
    except KeyboardInterrupt:
        say("\nstopped: what could be rolled back was, what was done stays (lockstep status)")
        raise


class _Lines(logging.Handler):
    """Prints the flow's progress as `sync` prints its own."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self._silent = silent
        self._progress = teller()

    def emit(self, record: logging.LogRecord) -> None:
        call = getattr(record, "lockstep", None)  # see tasks/progress.py
        if call is not None and not self._silent:
            method, values, named = call
            getattr(self._progress, method)(*values, **named)


def _document(
    place: Place | None, ended: Ended | None, plans: list[TargetPlan], error: LockstepError | None = None
) -> dict[str, Any]:
    through = place.deployment.name if place and place.deployment else None
    return {
        "run_id": ended.run_id if ended else None,
        "deployment": through,
        "flow_run": None
        if ended is None
        else {"id": str(ended.id), "name": ended.name, "url": ended.url, "state": ended.state},
        "environments": [
            {
                "environment": one.environment,
                "target": one.target,
                "plan": one.plan.digest,
                "migrations": [
                    {
                        "migration": row["migration"],
                        "state": row["state"],
                        "execution_ms": row["execution ms"],
                        "checksum": row["checksum"],
                    }
                    for row in (ended.table(one.environment) if ended else [])
                ],
            }
            for one in plans
        ],
        "error": None if error is None else error_document(error),
    }
