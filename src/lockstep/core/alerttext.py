"""An alert as subject and body: plain text that reads well in a chat, an e-mail and on a pager. Pure.

The subject alone must do for a pager. What others wrote (errors, names, reasons) stays text: one line stays one line,
and nothing in it steers a terminal or addresses anybody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lockstep.core.alert import Alert
from lockstep.core.text import printable

SUBJECT = 160  # characters
MESSAGE = 2_500  # characters of an error, and no more: it stands in full in the run's log
_LINES = 40  # of it
_FILES = 20  # that are named

_CALLS = re.compile(r"(?<!\w)@(?=channel\b|here\b|everyone\b|all\b)|<(?=[!@#])", re.IGNORECASE)

_WORDS = {
    "failed": "FAILED",
    "crashed": "CRASHED",
    "waiting": "waits for approval",
    "not approved": "not approved",
    "drift": "DRIFT",
    "unhealthy": "UNHEALTHY",
    "late": "LATE",
    "recovered": "recovered",
}


def subject(alert: Alert) -> str:
    """Return one line: what, where, and the headline."""
    where = f" {alert.environment}" if alert.environment else ""
    return _cut(_safe(f"lockstep {_WORDS.get(alert.occasion, alert.occasion)}{where}: {alert.headline}"), SUBJECT)


def body(alert: Alert, *, most: int | None = None) -> str:
    """Return the text below the subject. With `most` it has no more characters: the error's own words give way first."""
    text = _body(alert, MESSAGE)
    if most is None:
        return text
    for room in (800, 300, 0):
        if len(text) > most:
            text = _body(alert, room)
    return _cut(text, most)


def document(alert: Alert) -> dict[str, object]:
    """Return what a plain webhook gets. docs/how-to/alerts.md describes it."""
    return {
        "subject": subject(alert),
        "body": body(alert),
        "occasion": alert.occasion,
        "incident": alert.incident,
        "environment": alert.environment,
        "run_id": alert.run_id,
        "url": alert.url,
        "step": alert.step,
        "migration": alert.migration,
        "file": alert.file,
        "line": alert.line,
        "sqlstate": alert.sqlstate,
        "next": alert.next_command,
        "repeats": alert.repeats,
        "at": alert.at.isoformat(timespec="seconds"),
    }


def _body(alert: Alert, room: int) -> str:
    blocks = [_where(alert), _message(alert, room), _state(alert), _approval(alert), _people(alert)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _where(alert: Alert) -> list[str]:
    lines = []
    if alert.environment:
        lines.append(f"environment: {_safe(alert.environment)}")
    if alert.migration:
        lines.append(f"migration: {_safe(alert.migration)}")
    if alert.step and alert.step != alert.migration:
        lines.append(f"step: {_safe(alert.step)}")
    if alert.file:
        lines.append(f"file: {_safe(alert.file)}" + (f":{alert.line}" if alert.line else ""))
    if alert.sqlstate:
        lines.append(f"SQLSTATE: {_safe(alert.sqlstate)}")
    return lines


def _message(alert: Alert, room: int) -> list[str]:
    if not alert.message or not room:
        return []
    lines = [_safe(line.expandtabs(4)) for line in alert.message.splitlines()]
    kept = lines[:_LINES]
    while kept and sum(map(len, kept)) + len(kept) > room:
        cut = kept.pop()
        if not kept:
            kept = [_cut(cut, room)]
            break
    return [*kept, "…"] if len(kept) < len(lines) else kept


def _state(alert: Alert) -> list[str]:
    lines = [f"state: {_safe(alert.state)}"] if alert.state else []
    if alert.ways_back:
        lines += ["ways back:", *(f"  {_safe(way)}" for way in alert.ways_back)]
    if alert.repeats:
        times = "once" if alert.repeats == 1 else f"{alert.repeats} times"
        lines.append(f"it happened {times} before, since it was last told")
    return lines


def _approval(alert: Alert) -> list[str]:
    lines = []
    if alert.what:
        shown = [_safe(name) for name in alert.what[:_FILES]]
        more = len(alert.what) - len(shown)
        lines += ["to apply:", *(f"  {name}" for name in shown), *([f"  and {more} more"] if more else [])]
    return lines + [_safe(one) for one in alert.digests]


def _people(alert: Alert) -> list[str]:
    lines: list[str] = []
    _add(lines, "next", alert.next_command)
    _add(lines, "run", alert.run_id)
    _add(lines, "link", alert.url)
    _add(lines, "contacts", _joined(alert.contacts))
    _add(lines, "runbook", alert.runbook)
    _add(lines, "incident", alert.incident)
    return lines


def _add(lines: list[str], word: str, text: str | None) -> None:
    if text:
        lines.append(f"{word}: {_safe(text)}")


def _joined(texts: Sequence[str]) -> str:
    return ", ".join(texts)


def _safe(text: str) -> str:
    """Text of others on one line, that calls nobody: a chat would take `@channel` or `<!here>` for everybody."""
    return _CALLS.sub(lambda call: f"{call[0]}\u2060", printable(text))  # a joiner, which nobody sees


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"
