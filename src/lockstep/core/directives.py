"""Directives: `-- lockstep: …` comments at the head of a file.

An unknown one is an error, never ignored, and so is a comment that only looks like one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lockstep.core import privacy
from lockstep.core.duration import parse_duration
from lockstep.core.nearest import meant
from lockstep.errors import MigrationFileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A finding that the author accepts, with the reason."""

    rule: str  # rule name of the finding
    reason: str  # why it is right here
    line: int  # where it stands, from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """All that the head of one file says."""

    transactional: bool = True  # transaction=none turns it off
    lock_timeout_ms: int | None = None  # None: the configured default
    statement_timeout_ms: int | None = None  # None: no limit
    irreversible: str | None = None  # reason why there is no way back
    manual: tuple[str, ...] = ()  # steps that a person must do
    repeat_until_empty: bool = False  # a backfill
    batch_pause_ms: int = 0  # pause between a backfill's batches
    uses: tuple[str, ...] = ()  # settings that a repeatable reads
    allow: tuple[Allowance, ...] = ()  # accepted findings


NONE = Directives()

_LINE = re.compile(r"\s*--\s*lockstep:(.*)", re.IGNORECASE)
_ITEM = re.compile(r'\s*([A-Za-z_-]+)(?:=(?:"([^"]*)"|([^\s"]+)))?(?=\s|$)')
_NAMES = (
    "transaction", "lock_timeout", "statement_timeout", "irreversible", "manual", "repeat-until-empty", "batch_pause",
    "uses", "allow", "reason",
)  # fmt: skip
_TEXTS = ("irreversible", "manual", "reason")  # whose values are words for a person
_SETTING = re.compile(r"[a-z_][a-z0-9_]*")
_ANY = "|".join(_NAMES)
#: A comment that begins with lockstep and a directive's name. Without a colon the name needs a `=`, unless it is no
#: English word: "lockstep uses a ledger" is a sentence.
_LOOKS = re.compile(
    rf"lockstep(?:\s*:\s*(?=(?:{_ANY})(?![\w-]))|[\s=,;-]+(?=(?:{_ANY})\s*=|[a-z-]+_[a-z]+\b|repeat-until-empty\b))"
    rf"(?P<body>(?:{_ANY})(?![\w-]).*)",
    re.IGNORECASE,
)


def _silent(text: str) -> bool:
    """Whether a text cannot hold a directive, nor what looks like one: the one check that most files get."""
    return "lockstep" not in text.lower()


def parse_directives(text: str, file: str) -> Directives:
    """Return what the head of `text` says. Raises MigrationFileError with the line of a bad or misplaced directive."""
    if _silent(text):
        return NONE
    found: dict[str, object] = {}
    manual: list[str] = []
    allow: list[Allowance] = []
    pause = 0  # line of batch_pause
    for line in _head(text):
        number = line.number
        if line.ignored:
            raise _no_effect(line, file)
        items = _items(line.body, file, number)
        names = [name for name, _ in items]
        if "allow" in names or "reason" in names:
            allow.append(_allowance(dict(items), names, file, number))
            continue
        for name, value in items:
            if name == "manual":
                manual.append(_text(name, value, file, number))
                continue
            field, parsed = _value(name, value, file, number)
            if field in found:
                raise MigrationFileError(f"directive '{name}' is given twice", file=file, line=number)
            found[field] = parsed
            if name == "batch_pause":
                pause = number
    if "batch_pause_ms" in found and "repeat_until_empty" not in found:
        raise MigrationFileError(
            "batch_pause belongs to repeat-until-empty",
            file=file,
            line=pause,
            hint="write repeat-until-empty batch_pause=…, or remove batch_pause",
        )
    return Directives(**found, manual=tuple(manual), allow=tuple(allow))  # type: ignore[arg-type]  # checked in _value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of the head that is a directive, or looks like one."""

    number: int  # from 1
    body: str  # behind `lockstep:`
    ignored: bool = False  # it only looks like one


def _head(text: str) -> list[_Line]:
    """The directive lines of the head. The head ends at the first line that is no comment."""
    lines: list[_Line] = []
    in_block = False
    begun = True  # in a block comment: its first word was there
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if in_block:
            if not begun and (words := stripped.lstrip("* \t")):
                lines += _look_alike(number, words.partition("*/")[0])
                begun = True
            in_block = "*/" not in stripped
        elif match := _LINE.fullmatch(line):
            lines.append(_Line(number=number, body=match[1]))
        elif stripped.startswith("/*"):
            words = stripped[2:].partition("*/")[0].lstrip("* \t")
            lines += _look_alike(number, words)
            begun = bool(words)
            in_block = "*/" not in stripped
            if not in_block and not stripped.endswith("*/"):
                break
        elif stripped.startswith("--"):
            lines += _look_alike(number, stripped[2:].lstrip())
        elif stripped:
            break
    return lines


def _look_alike(number: int, comment: str) -> list[_Line]:
    """A comment that looks like a directive, if it does."""
    match = _LOOKS.match(comment)
    return [_Line(number=number, body=match["body"].strip(), ignored=True)] if match else []


def _no_effect(line: _Line, file: str) -> MigrationFileError:
    body = line.body if '"' in line.body else re.sub(r"\s*=\s*", "=", line.body)
    return MigrationFileError(
        "this looks like a directive and has no effect",
        file=file,
        line=line.number,
        hint=f"write: -- lockstep: {privacy.said(body)}",
    )


def misplaced(text: str) -> list[int]:
    """Return the lines (from 1) of directive-like comments below the head, where they would have no effect."""
    if _silent(text):
        return []
    heads = {line.number for line in _head(text) if not line.ignored}
    lines = enumerate(text.split("\n"), start=1)
    return [number for number, line in lines if number not in heads and _LINE.fullmatch(line)]


def _items(body: str, file: str, line: int) -> list[tuple[str, str | None]]:
    items: list[tuple[str, str | None]] = []
    at = 0
    while at < len(body.rstrip()):
        match = _ITEM.match(body, at)
        if match is None:
            if _COMMA.search(body, at):
                raise _comma(body, file, line)
            raise MigrationFileError(
                f"cannot read the directive at: {privacy.said(body[at:].strip())}",
                file=file,
                line=line,
                hint='write name=value, with double quotes round a value that has spaces: irreversible="the reason"',
            )
        name = match[1].lower()
        if name not in _NAMES:
            close = meant(name, _NAMES)
            hint = "the directives are listed in docs/reference/file-format.md"
            if items and items[-1][0] in _TEXTS and items[-1][1] and "=" not in match[0]:
                text = f"{items[-1][1]} {_NEXT.split(body[at:].strip())[0]}"
                close, hint = "", f'a value with spaces stands in double quotes: {items[-1][0]}="{privacy.said(text)}"'
            raise MigrationFileError(
                f"unknown directive {_quoted(name)}{close}",
                file=file,
                line=line,
                hint=hint,
            )
        if match[3] and name not in _TEXTS and _COMMA.search(match[3]):
            raise _comma(body, file, line)
        items.append((name, match[2] if match[2] is not None else match[3]))
        at = match.end()
    if not items:
        raise MigrationFileError("an empty directive", file=file, line=line)
    return items


_NEXT = re.compile(r"\s+(?=[A-Za-z_-]+=)")
_COMMA = re.compile(rf",(?=\s|$|(?:{_ANY})(?:=|\s|$))", re.IGNORECASE)


def _comma(body: str, file: str, line: int) -> MigrationFileError:
    between = re.search(r"\buses=", body, re.IGNORECASE) is not None
    return MigrationFileError(
        f"a comma in the directive: {privacy.said(body.strip())}",
        file=file,
        line=line,
        hint="blanks stand between directives, not commas: lock_timeout=2s statement_timeout=10min"
        + ("; between settings a comma without a blank: uses=one,two" if between else ""),
    )


def _allowance(items: dict[str, str | None], names: list[str], file: str, line: int) -> Allowance:
    if (
        set(names) != {"allow", "reason"}
        or len(names) != 2
        or not items["allow"]
        or not (items["reason"] or "").strip()
    ):
        raise MigrationFileError(
            'an accepted finding needs its rule and a reason, alone on its line: allow=RULE reason="…"',
            file=file,
            line=line,
        )
    return Allowance(rule=str(items["allow"]), reason=str(items["reason"]), line=line)


def _text(name: str, value: str | None, file: str, line: int) -> str:
    if value is None or not value.strip():
        raise MigrationFileError(f'{name} needs a text: {name}="…"', file=file, line=line)
    return value


def _quoted(text: str) -> str:
    return f"'{text}'" if privacy.quoting() else privacy.said(text)


def _value(name: str, value: str | None, file: str, line: int) -> tuple[str, object]:
    """The field of Directives that one item sets, and its value."""
    if name == "transaction":
        if value != "none":
            raise MigrationFileError(
                "transaction can only be 'none'; without it a file is transactional",
                file=file,
                line=line,
                hint="write transaction=none, or remove it",
            )
        return "transactional", False
    if name in {"lock_timeout", "statement_timeout", "batch_pause"}:
        try:
            return f"{name}_ms", parse_duration(value or "")
        except ValueError as error:
            told = error if privacy.quoting() else "is no duration"
            raise MigrationFileError(f"{name}: {told}", file=file, line=line) from None
    if name == "repeat-until-empty":
        if value is not None:
            raise MigrationFileError("repeat-until-empty takes no value", file=file, line=line)
        return "repeat_until_empty", True
    if name == "uses":
        settings = tuple(part.strip() for part in (value or "").split(","))
        for setting in settings:
            if not _SETTING.fullmatch(setting):
                raise MigrationFileError(
                    f"uses: {_quoted(setting)} is no setting name (a-z, 0-9, _)", file=file, line=line
                )
        return "uses", settings
    return name, _text(name, value, file, line)
