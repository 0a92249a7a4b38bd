"""An overview as Markdown: three answers first, then an outcome per environment, then what they are made of.

What whoever opens the orchestrator in the morning reads. Times are absolute, since it is read hours later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lockstep.core.comparison import Row, State
from lockstep.core.markdown import code, table, text
from lockstep.core.matrix import names, row_of, words
from lockstep.core.migration import label
from lockstep.core.moments import utc_minute
from lockstep.service.answers import Answer, answers
from lockstep.service.drifting import Verdict
from lockstep.service.outcome import Grade, Outcome, age, outcomes, weighty
from lockstep.service.overview import EnvironmentOverview, Overview

_MIGRATIONS = 12  # newest ones; the table artifact has all
_COLUMN = 3  # environments that the head of a column names
_SHOWN = 6  # names on one line
_DRIFTED = 20  # objects of one environment
_FINDINGS = 12  # of one environment
_SETTLED = {State.APPLIED, State.BASELINE, State.REFORMATTED}


def overview_markdown(found: Overview) -> str:
    """Return the whole report. Whatever others wrote in it stays text."""
    every = outcomes(found)
    parts = [
        "\n".join(f"{_answer(one)}\\" for one in answers(found)).removesuffix("\\"),
        _outcomes(found, every),
        _section("Migrations", _matrix(found)),
        _section("Parity", _parity(found)),
        _section("Drift", _drift(found)),
        _section("Health", _health(found)),
        _section("Backups, rehearsals, approvals", _backups(found)),
        f"Looked at {utc_minute(found.at)}.",
    ]
    return "\n\n".join(part for part in parts if part)


def overview_line(found: Overview) -> str:
    """Return the three answers in one line, as plain words: `In step: no. Proven: yes. Healthy: yes.`"""
    return " ".join(f"{one.question.rstrip('?')}: {one.word.lower()}." for one in answers(found))


def _answer(one: Answer) -> str:
    return f"**{one.question} {one.word}.** {text(_sentence(one.text))}"


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _section(title: str, body: str) -> str:
    return f"### {title}\n\n{body}" if body else ""


def _outcomes(found: Overview, every: Sequence[Outcome]) -> str:
    """What somebody must look at first, then what is due; those in order in one line. A list, since its lines wrap."""
    places = {one.environment: one for one in found.environments}
    parts = []
    for grade, title in ((Grade.WRONG, "Look at"), (Grade.DUE, "Due")):
        lines = [_line(places[one.environment], one) for one in every if one.grade is grade]
        if lines:
            parts.append(_section(title, "\n".join(lines)))
    good = [_line(places[one.environment], one) for one in every if one.grade is Grade.GOOD]
    if good:
        parts.append(_section("In order", "\n".join(good)))
    return "\n\n".join(parts)


def _line(one: EnvironmentOverview, come: Outcome) -> str:
    place = (one.target or "").removeprefix(one.environment).strip(" ()")
    where = f" ({text(place)})" if place else ""
    after = f" → {_next(come.command)}" if come.command else ""
    return f"- **{text(one.environment)}**{where}: {text(come.text)}{after}"


def _many(shown: Sequence[str]) -> str:
    """Some names of many: every environment stands above."""
    more = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _next(command: str | None) -> str:
    """A command as code, and what is no command as words."""
    if command and re.fullmatch(r"lockstep [\w .:-]+", command):
        return code(command)
    return text(command or "")


# -- parts ---------------------------------------------------------------------------------------------------------------


def _matrix(found: Overview) -> str:
    """The newest migrations, and every older one that is not applied everywhere; a column for environments that are alike."""
    readable = [one for one in found.environments if one.error is None]
    columns = {one.environment: one.status.rows for one in readable}
    every = names(columns)
    shown = []
    alike: dict[tuple[str, ...], list[str]] = {}
    for place, (name, version) in enumerate(every):
        rows = [row_of(rows, name, version) for rows in columns.values()]
        settled = all(row is not None and row.state in _SETTLED for row in rows)
        if not settled or place >= len(every) - _MIGRATIONS:
            shown.append((name, version))
    for environment, own in columns.items():
        alike.setdefault(tuple(_state(own, name, version) for name, version in shown), []).append(environment)
    if not shown:
        return ""
    older = len(every) - len(shown)
    note = f"\n\nand {older} older, applied everywhere." if older else ""
    heads = ["migration", *(text(_named(group)) for group in alike.values())]
    body = [[text(label(name)), *(states[place] for states in alike)] for place, (name, _) in enumerate(shown)]
    return table(heads, body) + note


def _state(rows: Sequence[Row], name: str, version: int | None) -> str:
    row = row_of(rows, name, version)
    state = "—" if row is None else text(words(row))
    if row is not None and row.state is not State.APPLIED:
        state = f"**{state}**"
    return f"{state} {row.entry.applied_at:%Y-%m-%d}" if row is not None and row.entry else state


def _named(environments: Sequence[str]) -> str:
    more = len(environments) - _COLUMN
    return ", ".join(environments[:_COLUMN]) + (f" and {more} more" if more > 0 else "")


def _parity(found: Overview) -> str:
    equal = [f"{text(pair.left)} = {text(pair.right)}" for pair in found.parity if not pair.differences]
    lines = [f"- the same migrations left the same schema: {_many(equal)}"] if equal else []
    lines += [f"- {text(pair.text)}" for pair in found.parity if pair.differences]
    lines += [f"- {text(one.error.message)}" for one in found.unseen]
    return "\n".join(lines)


_VERDICTS = {
    Verdict.NONE: "the schema is the one that was recorded",
    Verdict.UNRECORDED: "nothing is recorded yet to compare with",
    Verdict.BUSY: "a run is at work, so what differs may be its own",
    Verdict.STALE: "the schema was not recorded after the last run, which was cut off",
}


def _drift(found: Overview) -> str:
    lines = []
    same: dict[Verdict, list[str]] = {}
    for one in found.environments:
        if one.drift is None:
            continue
        if one.drift.verdict is not Verdict.DRIFT:
            same.setdefault(one.drift.verdict, []).append(f"**{text(one.environment)}**")
            continue
        since = f" since {utc_minute(one.drift.state.at)}" if one.drift.state else ""
        count = len(one.drift.found)
        what = "1 object differs" if count == 1 else f"{count} objects differ"
        lines.append(f"- **{text(one.environment)}**: {what} from the recorded schema{since}")
        for each in one.drift.found[:_DRIFTED]:
            at = f", {utc_minute(each.at)}" if each.at else ""
            lines.append(f"  - {text(each.difference.change.label)}: {each.difference.change.action.value}{at}")
        if count > _DRIFTED:
            lines.append(f"  - and {count - _DRIFTED} more: {code(f'lockstep drift {one.environment}')}")
    lines += [f"- {_many(group)}: {_VERDICTS[verdict]}" for verdict, group in same.items()]
    return "\n".join(lines)


def _health(found: Overview) -> str:
    rows = []
    for one in found.environments:
        findings = weighty(one)
        for finding in findings[:_FINDINGS]:
            fix = (finding.fix or "").splitlines()
            rows.append([
                text(one.environment), f"**{finding.severity.value}**", finding.check, text(finding.object),
                text(finding.text), code(fix[0]) if fix else "",
            ])  # fmt: skip
        if len(findings) > _FINDINGS:
            more = f"and {len(findings) - _FINDINGS} more"
            rows.append([text(one.environment), "", more, "", "", code(f"lockstep health {one.environment} --all")])
    body = table(["environment", "", "check", "object", "what", "run"], rows)
    return "\n\n".join(part for part in (body, *_unjudged(found)) if part)


def _unjudged(found: Overview) -> Iterator[str]:
    healthy = [one for one in found.environments if one.health is not None and not weighty(one)]
    if healthy:
        yield f"Nothing critical and no warning: {_many([text(one.environment) for one in healthy])}."
    same: dict[str, list[str]] = {}
    for one in found.environments:
        checks = dict.fromkeys(hidden.check for hidden in one.health.hidden) if one.health else {}
        if checks:
            same.setdefault(", ".join(checks), []).append(f"**{text(one.environment)}**")
    if same:
        lines = [f"- {_many(group)}: not judged, or only in part: {checks}" for checks, group in same.items()]
        yield "\n".join(lines)


def _backups(found: Overview) -> str:
    rows = [_backup(found, one) for one in found.environments if one.protected]
    return table(["environment", "newest backup", "last verified", "last rehearsal", "waits for approval"], rows)


def _backup(found: Overview, one: EnvironmentOverview) -> list[str]:
    record = one.status.backups
    if record is None:
        return [text(one.environment), "not known", "not known", "not known", "not known"]
    taken = f"{utc_minute(record.taken_at)}, {age(record.taken_at, found.at)} ago" if record.taken_at else "**none**"
    proof = "**never**"
    if record.verified_at is not None:
        how = text(record.level or "")
        proof = f"{utc_minute(record.verified_at)} ({how})" + ("" if record.ok else ": **FAILED**")
    rehearsed = one.rehearsed
    tried = f"{utc_minute(rehearsed.at)}: {text(rehearsed.outcome)}" if rehearsed else "never"
    waits = [f"{code(each.run_id)} since {utc_minute(each.at)} ({age(each.at, found.at)})" for each in one.waiting]
    return [text(one.environment), taken, proof, tried, ", ".join(waits) or "nothing"]
