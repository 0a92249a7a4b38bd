"""What a run would send for a plan, as text: exactly, but for the values of settings and what only the run will know.

RUN-ID, MS, BATCHES and ROWS stand for the run's id, milliseconds and counts.
"""

from __future__ import annotations

from dataclasses import replace

from lockstep.core.counting import counted
from lockstep.core.ledger import Progress
from lockstep.core.planner import Plan, Step
from lockstep.core.rechecking import touched
from lockstep.core.units import Unit, UnitKind, done_digest, replayed
from lockstep.postgres.connection import Session, own_settings, set_sql
from lockstep.postgres.entries import RunInfo, Scribe
from lockstep.postgres.message import Frame, alone_message, setting_up_message, transaction_message

RUN_ID = "RUN-ID"  # stands for the run's own id


def sent(session: Session, plan: Plan, *, hurried: bool) -> str:
    """Return all that would be sent for the plan's steps, with comments of ours (`-- …`) between the messages.

    `hurried`: quick ones may travel together (service.together).
    """
    settings = own_settings(session.target, RUN_ID, session.facts.version, read_only=False)
    frame = replace(Frame.of(session), baseline=set_sql(settings))
    scribe = Scribe(target=session.target, run=RunInfo(run_id=RUN_ID), context=session.connection)
    first = ", ".join(f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in settings.items())
    parts = [f"-- the session, before anything else\nSELECT {first};"]
    if session.target.settings:
        parts.append(_settings(session))
    if hurried and len(plan.steps) > 1:
        parts.append("-- quick migrations may travel in one message; COMMIT waits for the disk once, at the end")
    parts += [_step(frame, scribe, step, hurried, step is plan.steps[-1]) for step in plan.steps]
    return "\n\n".join(parts)


def _settings(session: Session) -> str:
    names = session.target.settings
    if session.facts.settings_arrived:
        shown = " ".join(f"-c lockstep.{name}=***" for name in names)
        return f"-- settings, in the start-up packet: options={shown}"
    return (
        f"-- settings, as the data of a COPY, which no log shows: {', '.join(f'lockstep.{name}=***' for name in names)}"
    )


def _step(frame: Frame, scribe: Scribe, step: Step, hurried: bool, last: bool) -> str:
    up = step.migration.up
    script = up.script()
    verify = step.migration.verify.script() if step.migration.verify else None
    if up.transactional:
        rows = scribe.applied(step, len(script.statements))
        message = transaction_message(
            frame, up, script, rows, verify=verify, flushed=last or not hurried, joins=hurried
        )
        how = "one transaction" + (f", in {len(message.parts)} messages" if len(message.parts) > 1 else "")
        return f"-- {step.name}: {how}\n{message.text}"
    units = up.units()
    progress = step.resume or Progress(backfill=up.directives.repeat_until_empty)
    begun = transaction_message(frame, up, script, scribe.begun(step, len(script.statements)), span=(0, 0))
    parts = [f"-- {step.name}: outside of a transaction, {counted(len(units), 'unit')}\n-- it begins\n{begun.text}"]
    for number in range(progress.units, len(units)):
        parts.append(_unit(frame, scribe, step, number, progress))
        progress = replace(progress, units=number + 1, digest=done_digest(units, number + 1))
    totals = {"batches": "BATCHES", "rows": "ROWS"} if up.directives.repeat_until_empty else {}
    finished = transaction_message(frame, up, script, scribe.finished(step, totals), span=(0, 0), verify=verify)
    return "\n\n".join([*parts, f"-- it is done\n{finished.text}"])


def _unit(frame: Frame, scribe: Scribe, step: Step, number: int, progress: Progress) -> str:
    up = step.migration.up
    script, units = up.script(), up.units()
    unit = units[number]
    replay = replayed(script, units, number)
    after = replace(progress, units=number + 1, digest=done_digest(units, number + 1))
    title = f"-- unit {number + 1} of {len(units)}, {_statements(unit)}"
    if unit.kind is not UnitKind.ALONE:
        if unit.kind is UnitKind.BATCHES:
            title += ", again and again until it touches no row"
            after = replace(progress, batches=progress.batches + 1)
        rows = scribe.progressed(
            step.name,
            after,
            0 if unit.kind is UnitKind.BATCHES else unit.done_after,
            in_here=unit.kind is UnitKind.TRANSACTION and unit.may_make(script),
        )
        span = (unit.first, unit.first + unit.count)
        message = transaction_message(frame, up, script, rows, span=span, replay=replay)
        return f"{title}: one transaction with its progress\n{message.text}"
    done = units[number - 1].done_after if number else 0
    about = touched(unit.recheck(script))
    begun = scribe.progressed(step.name, replace(progress, attempted=unit.digest), done, "0", touches=about)
    traits = unit.statement(script).traits
    mark = transaction_message(frame, up, script, begun, span=(0, 0))
    setting_up = setting_up_message(frame, up, script, replay, waits_long=traits.waits_long)
    finished = transaction_message(
        frame, up, script, scribe.progressed(step.name, after, unit.done_after, "MS"), span=(0, 0)
    )
    return (
        f"{title}, cannot run in a transaction: what an earlier try left is looked for in the catalog, then\n{mark.text}\n"
        f"{setting_up.text}{alone_message(script, unit.first).text};\n-- and its progress (MS: what it took)\n{finished.text}"
    )


def _statements(unit: Unit) -> str:
    if unit.count == 1:
        return f"statement {unit.first + 1}"
    return f"statements {unit.first + 1} to {unit.first + unit.count}"
