"""A run explained, on one screen of a terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo

from lockstep.core.duration import format_ms
from lockstep.core.explanation import Asked, Done, Explanation, Place, Stop, next_command
from lockstep.core.moments import format_moment
from lockstep.core.table import render_table
from lockstep.core.text import printable

Paint = Callable[[str, str], str]  # (text, colour) -> decorated text

_LISTED = 4  # migrations of one kind that are named
_MESSAGE_LINES = 6


def _plain(text: str, _colour: str) -> str:
    return text


def explanation_text(
    found: Explanation, *, now: datetime, zone: tzinfo | None = None, width: int | None = None, paint: Paint = _plain
) -> str:
    """Return the whole screen. `zone` and `width` as `format_moment` and `render_table` take them."""

    def moment(at: datetime) -> str:
        return format_moment(at, now, zone).strip()

    parts = [_head(found, moment), _why(found, moment, paint), _ran(found, moment, width), _now(found, moment, width)]
    parts += [_ways(place, width, paint) for place in found.places if place.ways_back]
    parts.append(f"next: {paint(next_command(found), 'bold')}")
    if found.contacts:
        parts[-1] += f"\ncontacts: {', '.join(found.contacts)}"
    if found.runbook:
        parts[-1] += f"\nrunbook: {found.runbook}"
    if found.unseen:
        parts.append("not looked at:\n" + "\n".join(f"  {printable(one)}" for one in found.unseen))
    return "\n\n".join(part for part in parts if part)


def _head(found: Explanation, moment: Callable[[datetime], str]) -> str:
    prefect = found.orchestrated
    name = f"  {printable(prefect.name)}" if prefect else ""
    state = f"  {prefect.state}" + (f" {moment(prefect.at)}" if prefect.at else "") if prefect else ""
    which = "  (the newest run)" if found.newest else ""
    lines = [f"run {printable(found.run_id)}{name}{state}{which}"]
    if found.by:
        lines.append(f"  started by {', '.join(map(printable, found.by))}")
    if prefect and prefect.reason:
        lines.append(f"  reason: {printable(prefect.reason)}")
    if found.url:
        lines.append(f"  {printable(found.url)}")
    return "\n".join(lines)


def _why(found: Explanation, moment: Callable[[datetime], str], paint: Paint) -> str:
    place = found.stopped_at
    prefect = found.orchestrated
    if place is not None and place.stop is not None:
        lines = [paint(f"stopped at {place.environment}, {moment(place.stop.at)}", "red"), f"  {_stop(place.stop)}"]
        if prefect is not None and prefect.kind == "FAILED" and prefect.message:
            lines += _indented(prefect.message)
        return "\n".join(lines)
    if (waiting := found.waiting_at) is not None and waiting.asked is not None:
        until = f", until {moment(waiting.asked.expires_at)}" if waiting.asked.expires_at else ""
        return paint(f"it waits for approval of {waiting.environment}{until}", "yellow")
    if found.at_work:
        return paint("it is still at work", "yellow")
    if prefect is not None and prefect.kind in ("FAILED", "CRASHED", "CANCELLED"):
        lines = [paint(f"it ended as {prefect.state}", "red")]
        return "\n".join([*lines, *_indented(prefect.message or "")])
    return ""


def _indented(message: str) -> list[str]:
    lines = [printable(line) for line in message.splitlines() if line.strip()]
    more = [f"    … {len(lines) - _MESSAGE_LINES} more lines"] if len(lines) > _MESSAGE_LINES else []
    return [f"    {line}" for line in lines[:_MESSAGE_LINES]] + more


def _stop(stop: Stop) -> str:
    where = ":".join(str(part) for part in (stop.file, stop.line) if part is not None)
    place = f" at {where}" if where else ""
    state = f", SQLSTATE {stop.sqlstate}" if stop.sqlstate else ""
    again = f" ({stop.count} times)" if stop.count > 1 else ""
    head = f"{stop.label} failed{place}{state}{again}: " if stop.event == "fail" and stop.label else ""
    return printable(f"{head}{stop.what}")


def _ran(found: Explanation, moment: Callable[[datetime], str], width: int | None) -> str:
    rows = []
    for place in found.places:
        for number, text in enumerate(_did(found, place, moment)):
            rows.append([place.environment if not number else "", printable(text)])
    return "what ran\n" + _table(rows, width) if rows else ""


def _did(found: Explanation, place: Place, moment: Callable[[datetime], str]) -> list[str]:
    if place.error is not None:
        return [f"not known: {place.error.splitlines()[0]}"]
    if not place.touched:
        return [found.untouched(place)]
    lines = []
    if place.applied:
        lines.append(f"{len(place.applied)} applied: {_done(place.applied)}")
    if place.reverted:
        lines.append(f"{len(place.reverted)} taken back: {_done(place.reverted)}")
    if place.rolled_back:
        lines.append(f"rolled back, nothing of it is left: {place.rolled_back}")
    if place.begun:
        lines.append(f"begun and not finished: {', '.join(place.begun)}")
    if place.asked is not None:
        lines.append(_approval(place.asked, moment))
    lines += [f"overridden: {one}" for one in place.overrides]
    about = [f"backup {place.backup}"] if place.backup else []
    about += [f"rehearsal {place.rehearsal}"] if place.rehearsal else []
    if about:
        lines.append(", ".join(about))
    return lines if place.applied or place.reverted or place.begun else ["nothing was applied", *lines]


def _done(done: Sequence[Done]) -> str:
    names = [f"{one.label}{f' {format_ms(one.ms)}' if one.ms is not None else ''}" for one in done]
    if len(names) <= _LISTED:
        return ", ".join(names)
    return f"{', '.join(names[: _LISTED - 1])}, … {names[-1]}"


def _approval(asked: Asked, moment: Callable[[datetime], str]) -> str:
    if asked.standing == "waiting":
        return f"asked for approval {moment(asked.at)} by {asked.by}: nobody answered yet"
    who = f" by {asked.answered_by}" if asked.answered_by else ""
    how = f" ({'by --approve beforehand' if asked.how == 'flag' else asked.how})" if asked.how else ""
    at = f" {moment(asked.answered_at)}" if asked.answered_at else ""
    return f"approval: {asked.standing}{who}{how}{at}" + (f": {asked.reason}" if asked.reason else "")


def _now(found: Explanation, moment: Callable[[datetime], str], width: int | None) -> str:
    rows = []
    for place in found.places:
        if place.error is not None:
            rows.append([place.environment, "not readable"])
            continue
        where = (place.target or "").removeprefix(place.environment).strip(" ()")
        rows.append([place.environment, printable(f"{where}: {place.ledger}")])
        if place.touched and place.not_started and place.stop is not None:
            rows.append(["", f"not started: {_named(place.not_started)}"])
        rows.append(["", printable(f"lock held by {place.holder}") if place.holder else "lock free"])
        rows += [["", printable(f"still on the server: {one}")] for one in place.sessions]
    prefect = found.orchestrated
    if prefect is not None:
        word = "waits for an answer" if prefect.waits else "alive" if prefect.alive else "over"
        rows.append(["Prefect", f"{prefect.state}: {word}"])
    return "now\n" + _table(rows, width)


def _named(labels: Sequence[str]) -> str:
    if len(labels) <= _LISTED:
        return ", ".join(labels)
    return f"{', '.join(labels[: _LISTED - 1])}, … {labels[-1]} ({len(labels)})"


def _ways(place: Place, width: int | None, paint: Paint) -> str:
    rows = []
    for way in place.ways_back:
        took = format_ms(way.ms) if way.ms is not None else "–"
        loses = "" if not way.command else f"loses {way.loses or 'nothing'}"
        rows.append([way.how, took, printable(loses or way.loses)])
        if way.command:
            rows.append(["", "", paint(printable(way.command), "bold")])
    measured = place.measured or "not measured"
    return f"the ways back of {place.environment} ({printable(measured)})\n{_table(rows, width)}"


def _table(rows: list[list[str]], width: int | None) -> str:
    lines = render_table(None, rows, width=width - 2 if width else None).splitlines()
    return "\n".join(f"  {line}" for line in lines)
