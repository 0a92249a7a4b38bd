"""Show what others changed in a schema since Lockstep left it: object by object, and when. Read-only but for --accept."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.context import Context
from lockstep.cli.differences import difference_document, ignored_documents, ignored_line, show_difference
from lockstep.cli.terminal import error_document, show, show_json, show_problem, talk
from lockstep.core.counting import counted
from lockstep.errors import ExitCode, LockstepError, UsageError

if TYPE_CHECKING:
    from lockstep.config import Environment
    from lockstep.service.drifting import Dated, DriftReport, Proposal

EXAMPLES = """\
  lockstep drift                            every environment; exit 4 when one was changed by hand
  lockstep drift prod --fix-sql             write the simple differences as a migration, to be read and kept
  lockstep drift prod --accept "INC-42"     from now on the schema is meant to be as it is"""


def configure(parser: argparse.ArgumentParser) -> None:
    words.environments(parser)
    parser.add_argument(
        "--accept",
        metavar="REASON",
        help="record the schema as it stands as intended; the reason goes into the audit log",
    )
    parser.add_argument(
        "--fix-sql",
        action="store_true",
        help="write a migration that makes the simple differences everywhere; never applies it",
    )


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    chosen = context.settings.chosen(arguments.environments)
    if arguments.accept is not None and len(arguments.environments) != 1:
        raise UsageError("--accept is about one environment: name it", hint="lockstep drift prod --accept REASON")
    if arguments.accept is not None and arguments.fix_sql:
        raise UsageError("--accept and --fix-sql are two steps: write the file first, then accept")
    if arguments.accept is not None:
        return _accept(chosen[0], arguments.accept, context)
    from lockstep.service.drifting import Verdict, find_drift, propose

    reports: list[DriftReport] = []
    errors: dict[str, LockstepError] = {}
    for environment in chosen:
        try:
            reports.append(find_drift(context.settings, environment))
        except LockstepError as error:
            if len(chosen) == 1:
                raise
            errors[environment.name] = error
    drafted = {one.environment: propose(context.settings, one) for one in reports} if arguments.fix_sql else {}
    if context.as_json:
        shown = [_document(one, drafted.get(one.environment)) for one in reports]
        shown += [{"environment": name, "error": error_document(error)} for name, error in errors.items()]
        show_json("drift", {"environments": shown})
    else:
        for number, one in enumerate(reports):
            if number:
                show("")
            _show(one)
            proposal = drafted.get(one.environment)
            if proposal is None:
                continue
            for path in proposal.paths:
                talk(f"{one.environment}: wrote {path}; nothing was applied")
            if proposal.left_out:
                left = ", ".join(words.safe(text) for text in proposal.left_out)
                talk(f"{one.environment}: not in a file, write it yourself: {left}")
    for problem in errors.values():
        show_problem(problem.message, hint=problem.hint)
    if errors:
        return max(problem.exit_code for problem in errors.values())
    verdicts = {one.verdict for one in reports}
    if verdicts & {Verdict.DRIFT, Verdict.STALE} or any(one.absent for one in reports):
        return ExitCode.DISAGREES
    return ExitCode.LOCKED if Verdict.BUSY in verdicts else ExitCode.DONE


def _accept(environment: Environment, reason: str, context: Context) -> ExitCode:
    from lockstep.postgres.entries import RunInfo
    from lockstep.service.drifting import accept_drift
    from lockstep.service.run import new_run_id

    report = accept_drift(context.settings, environment, RunInfo(run_id=new_run_id()), reason)
    if context.as_json:
        show_json("drift", {"environments": [_document(report, None)], "accepted": reason})
        return ExitCode.DONE
    count = len(report.found)
    what = counted(count, "difference") if count else "the schema as it stands"
    show(f"{report.target}: {what} accepted ({reason})")
    for one in report.found:
        show(f"  {words.action(one.difference.change.action)} {words.safe(one.difference.change.label)}")
    return ExitCode.DONE


def _show(one: DriftReport) -> None:
    from lockstep.core.remedy import maybe_renamed
    from lockstep.service.drifting import Verdict
    from lockstep.service.recording import since

    for schema in one.absent:
        show(f"{one.target}: schema {words.safe(schema)} is not there: look at [project] schemas in lockstep.toml")
    if one.verdict is Verdict.UNRECORDED:
        show(f"{one.target}: the schema is not recorded yet, so there is nothing to compare with")
        talk(
            f"  next: the next sync that applies something records it, or: lockstep drift {one.environment} --accept REASON"
        )
        return
    if one.verdict is Verdict.BUSY:
        show(
            f"{one.target}: something changed, and {words.safe(one.holder or 'a run')} is at work on it: look again when it has ended"
        )
        return
    assert one.state is not None
    left = since(one.state)
    if one.verdict is Verdict.NONE:
        show(f"{one.target}: no drift: the schema is {left}")
    else:
        what = counted(len(one.found), "object differs", "objects differ")
        show(f"{one.target}: {what} from the schema {left}")
        if one.verdict is Verdict.STALE:
            show(
                "  The ledger went on since: a run was cut off before it could record the schema, or a repair. Its own changes"
            )
            show("  be among these; the next run takes them for what they are, and all else stays drift.")
        renamed = maybe_renamed(dated.difference for dated in one.found)
        for dated in one.found:
            show("")
            show_difference(dated.difference, renamed=renamed, when=_when(dated, datetime.now(UTC)))
    for schema in one.fresh:
        show(f"  schema {words.safe(schema)} is configured since then: it is not compared before it is recorded")
    if text := ignored_line(one.ignored, one.reprinted, one.other_text):
        show(text)
    if one.found:
        show("")
        show(
            f"keep: lockstep drift {one.environment} --fix-sql writes it as a migration; "
            f'meant so: lockstep drift {one.environment} --accept "why"'
        )


def _when(dated: Dated, now: datetime) -> str:
    """Between which events it was made, in one line."""
    from lockstep.core.migration import label
    from lockstep.core.moments import utc_minute

    def event(one: Any) -> str:
        about = f" {label(one.migration_name)}" if one.migration_name else ""
        return f"{words.safe(one.event)}{about} by {words.safe(one.actor)} ({utc_minute(one.at)})"

    exactly = f"made {utc_minute(dated.at)}" if dated.at else "made"
    if dated.after is None and dated.before is None:
        first, last = dated.between
        if first is None and last is None:
            return "when cannot be told"
        gone = "gone" if dated.difference.change.after is None else "made"
        start = f"after {utc_minute(first)}" if first else "at some time"
        end = f" and before {utc_minute(last)}" if last else f" and before now ({utc_minute(now)})"
        return f"{gone} {start}{end}"
    start = f"after {event(dated.after)}" if dated.after else "before all that is logged"
    end = f", before {event(dated.before)}" if dated.before else ", and nothing was logged since" if dated.after else ""
    return f"{exactly} {start}{end}"


def _document(one: DriftReport, proposal: Proposal | None) -> dict[str, Any]:
    def event(found: Any) -> dict[str, Any] | None:
        return None if found is None else {
            "id": found.id, "at": found.at, "event": found.event, "actor": found.actor,
            "migration_name": found.migration_name, "run_id": found.run_id,
        }  # fmt: skip

    from lockstep.core.remedy import maybe_renamed

    renamed = maybe_renamed(dated.difference for dated in one.found)
    return {
        "environment": one.environment,
        "target": one.target,
        "verdict": one.verdict.value,
        "holder": one.holder,
        "absent_schemas": list(one.absent),
        "new_schemas": list(one.fresh),
        "recorded": None
        if one.state is None
        else {
            "at": one.state.at,
            "event": one.state.event,
            "actor": one.state.actor,
            "run_id": one.state.run_id,
            "version": one.state.version,
            "digest": f"pg{one.state.major}:{one.state.digest}",
        },
        "differences": [
            {
                **difference_document(dated.difference, renamed),
                "made_after": event(dated.after),
                "made_before": event(dated.before),
                "made_at": dated.at,
                "between": list(dated.between),
            }
            for dated in one.found
        ],
        **ignored_documents(one.ignored, one.reprinted, one.other_text),
        "drafted": list(proposal.paths) if proposal else [],
        "left_out": list(proposal.left_out) if proposal else [],
    }
