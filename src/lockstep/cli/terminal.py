"""How a command speaks: results to stdout, talk to stderr, colour only as decoration, one JSON document with --json.

How much it says, in which zone, how wide and whether in colour is decided here, once for a call: by its options and by
what the environment says of the terminal.
"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from lockstep.errors import ExitCode, LockstepError, MigrationFailed

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from lockstep.service.progress import Progress

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}


class Manner:
    """How this call speaks. No dataclass: to make one takes longer than the rest of this module."""

    def __init__(self) -> None:
        self.quiet = False  # only errors, what asks for somebody, and the result
        self.as_json = False
        self.zoned = False  # a zone was chosen
        self.zone: tzinfo | None = None  # of times for people; None: the machine's own
        self.unfinished = False  # a line about what is under way stands there, to be written over


manner = Manner()


def speak(*, quiet: bool = False, as_json: bool = False) -> None:
    """Decide how this call speaks."""
    manner.quiet, manner.as_json, manner.unfinished = quiet, as_json, False
    choose_zone(chosen=False, zone=None)


def choose_zone(*, chosen: bool, zone: tzinfo | None) -> None:
    """Decide in which zone times are shown."""
    manner.zoned, manner.zone = chosen, zone
    if zone is not None or "lockstep.core.moments" in sys.modules:
        from lockstep.core.moments import show_in

        show_in(zone)


def quiet() -> bool:
    """Whether no more is wanted than errors and the result."""
    return manner.quiet


# -- what is said ---------------------------------------------------------------------------------------------------------


def show(text: str, *, exact: bool = False) -> None:
    """Print a result. `exact`: to the letter, unless it goes to a terminal."""
    clear()
    text = _in_zone(text)
    sys.stdout.write((text if exact and not sys.stdout.isatty() else harmless(text)) + "\n")


def detail(text: str) -> None:
    """Print what belongs to a result and is left out with --quiet, where only its last line counts."""
    if not manner.quiet:
        show(text)


def talk(text: str, *, urgent: bool = False) -> None:
    """Say something beside the result. `urgent`: with --quiet as well, since somebody has to know it."""
    if manner.quiet and not urgent:
        return
    clear()
    sys.stderr.write(harmless(_in_zone(text)) + "\n")
    sys.stderr.flush()


def teller() -> Progress:
    """Return who is told how far a use case is."""
    if manner.as_json:
        from lockstep.service.progress import Urgent

        return Urgent(lambda text: talk(text, urgent=True))
    return TerminalProgress()


def show_json(kind: str, body: dict[str, Any]) -> None:
    """Print the one document of a --json call. docs/reference/json.md describes each `format`."""
    import msgspec

    clear()
    raw = msgspec.json.encode({"format": f"lockstep.{kind}/1", **body}, enc_hook=str)
    text = msgspec.json.format(raw.decode(), indent=2)
    sys.stdout.write(_STEERING.sub(lambda one: json_escape(one[0]), text) + "\n")


def show_error(error: LockstepError, *, as_json: bool, contacts: list[str], runbook: str | None) -> ExitCode:
    """Say what went wrong, what to do next and where to read on; return the exit code."""
    if as_json:
        show_json("error", {"error": error_document(error)})
        return error.exit_code
    detail = error.detail if isinstance(error, MigrationFailed) else None
    show_problem(error.message, detail=detail, hint=error.hint, more=error.more)
    if error.exit_code is not ExitCode.USAGE:
        if contacts:
            talk(f"  contacts: {', '.join(contacts)}", urgent=True)
        if runbook:
            talk(f"  runbook: {runbook}", urgent=True)
    return error.exit_code


def show_problem(message: str, *, hint: str | None = None, more: str | None = None, detail: str | None = None) -> None:
    """Say what is wrong, what to do next, and where to read on (an anchor of the guide), whatever else is said."""
    for line in problem_lines(message, hint=hint, more=more, detail=detail):
        talk(line, urgent=True)


def problem_lines(
    message: str, *, hint: str | None = None, more: str | None = None, detail: str | None = None
) -> list[str]:
    """Return the lines of a problem."""
    # A row's value or a role's name may stand in it, as the server repeats it.
    message, hint, detail = harmless(message), hint and harmless(hint), detail and harmless(detail)
    found = [f"{paint('error:', 'red', sys.stderr)} {message}"]
    found += [f"  detail: {detail}"] if detail else []
    found += [f"  next: {hint}"] if hint else []
    found += [f"  more: docs/guide.md#{more}"] if more else []
    return found


def error_document(error: LockstepError) -> dict[str, Any]:
    """An error as JSON documents hold it."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "more": f"docs/guide.md#{error.more}" if error.more else None,
        "exit_code": int(error.exit_code),
    }


#: What would steer a terminal, turn the direction of reading round, hide something, or cannot be written at all.
_STEERING = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb"
    "\\U000e0000-\\U000e007f\\ud800-\\udfff]"
)
_OURS = re.compile(rf"\x1b\[(?:{'|'.join(_COLOURS.values())}|0)m")


def harmless(text: str) -> str:
    """Return a text whose lines and colours are ours, with whatever else steers a terminal written out: `\\x1b`.

    The last barrier: what others wrote is made one line where it is put into a text (core.text.printable).
    """
    if _STEERING.search(text) is None:
        return text
    from lockstep.core.text import printable

    kept = _OURS.findall(text)
    parts = [_STEERING.sub(lambda one: printable(one[0]), part) for part in _OURS.split(text)]
    return "".join(part + colour for part, colour in zip(parts, [*kept, ""], strict=True))


def json_escape(char: str) -> str:
    """Return a character as JSON writes those that may not stand in a text."""
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return "".join(f"\\u{half:04x}" for half in (0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF)))


# -- what the terminal can ------------------------------------------------------------------------------------------------


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Colour a text where `stream` (stdout by default) shows colours. What it says, its words say as well."""
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if in_colour(stream) else text


def in_colour(stream: TextIO | None = None) -> bool:
    """Whether colours are wanted: NO_COLOR forbids them; FORCE_COLOR or CLICOLOR_FORCE ask for them in a pipe as well."""
    environ = os.environ
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return _is_terminal(stream or sys.stdout)


def is_live(stream: TextIO | None = None) -> bool:
    """Whether a line can be written over: a terminal that is not dumb."""
    return _is_terminal(stream or sys.stderr)


def _is_terminal(stream: TextIO) -> bool:
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def width(stream: TextIO | None = None) -> int | None:
    """Return how many cells a line has: COLUMNS, else the terminal's; None, as many as wanted: nobody sees it there."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    stream = stream or sys.stdout
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


# -- what is under way ----------------------------------------------------------------------------------------------------

LINE_EVERY = 5.0  # seconds between two lines about what is under way, where no line can be written over
DRAW_EVERY = 0.1  # seconds between two drawings of one line
_BAR = range(8, 21)  # cells of a bar: as there is room


class TerminalProgress:
    """Progress on stderr: a line per thing done, with its time; on a terminal also what is under way, redrawn in place."""

    def __init__(self) -> None:
        self._live = is_live() and not manner.quiet
        self._drawn_at = 0.0
        self._about: tuple[str, str] | None = None  # what the drawn line is about
        self._next_line = 0.0  # when the next one about something under way is due

    def note(self, environment: str, text: str, *, urgent: bool = False) -> None:
        talk(f"{environment}: {text}", urgent=urgent)

    def started(self, environment: str, what: str) -> None:
        self._next_line = time.monotonic() + LINE_EVERY
        if self._live:
            draw(f"{environment}:   {what} …")

    def under_way(self, environment: str, what: str, text: str, share: float | None = None) -> None:
        now = time.monotonic()
        if self._live:
            if manner.unfinished and self._about == (environment, what) and now - self._drawn_at < DRAW_EVERY:
                return
            self._about, self._drawn_at = (environment, what), now
            head = f"{environment}:   {what} … "
            draw(head + (with_bar(share, text, _cells() - len(head)) if share is not None else text))
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY
            talk(f"{environment}:   {what} … {text}")

    def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
        from lockstep.core.duration import format_ms

        took = f"  {format_ms(ms)}" if ms is not None else ""
        talk(f"{environment}:   {what}  {paint(outcome, 'green', sys.stderr)}{took}")


def with_bar(share: float, text: str, room: int) -> str:
    """Return how far something is as a bar before its text, where there is room for one."""
    percent = f"{share:4.0%} "
    cells = min(room - len(f"[] {percent}{text}"), _BAR[-1])
    if cells not in _BAR:
        return percent.lstrip() + text
    full = min(int(share * cells), cells)
    return f"[{'#' * full}{'.' * (cells - full)}] {percent}{text}"


def _cells() -> int:
    """How many cells a line has that is drawn over: one that the terminal breaks could not be cleared again."""
    return (width(sys.stderr) or 80) - 1


def draw(line: str) -> None:
    """Write a line on stderr over the one that stands there."""
    start = "\r\033[2K" if manner.unfinished else ""
    sys.stderr.write(start + _cut(harmless(line), _cells()))
    sys.stderr.flush()
    manner.unfinished = True


def clear() -> None:
    """Take the drawn line away, so that what comes next begins a line."""
    if manner.unfinished:
        manner.unfinished = False
        sys.stderr.write("\r\033[2K")
        sys.stderr.flush()


def _cut(text: str, cells: int) -> str:
    from lockstep.core.text import display_width

    if display_width(text) <= cells:
        return text
    while text and display_width(text) >= cells:
        text = text[:-1]
    return f"{text}…"


# -- times ----------------------------------------------------------------------------------------------------------------


def zoned(moment: datetime, form: str) -> str:
    """Return a moment in the chosen zone, else in UTC, with how far that is from UTC: to be read, and to be given again."""
    from datetime import UTC

    there = moment.astimezone(manner.zone if manner.zoned else UTC)
    ahead = f"{there:%z}"
    return f"{there:{form}}" + (f"{ahead[:3]}:{ahead[3:5]}" if manner.zoned else "")


_UTC = r"(\d{4}-\d\d-\d\d) (\d\d:\d\d(?::\d\d)?) UTC\b"


def _in_zone(text: str) -> str:
    """Times that say UTC, in the zone that was chosen. Messages are read elsewhere as well, so they are made in UTC."""
    if not manner.zoned or " UTC" not in text:
        return text
    from datetime import UTC, datetime

    def there(match: re.Match[str]) -> str:
        try:
            moment = datetime.fromisoformat(f"{match[1]} {match[2]}").replace(tzinfo=UTC).astimezone(manner.zone)
        except ValueError:
            return match[0]
        return f"{moment:{'%Y-%m-%d %H:%M:%S' if match[2].count(':') == 2 else '%Y-%m-%d %H:%M'} %Z}"

    return re.sub(_UTC, there, text)
