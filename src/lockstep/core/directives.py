"""Directives: `-- lockstep: …` comments at the head of a file. An unknown one is an error, never ignored."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lockstep.core.duration import parse_duration
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
_SETTING = re.compile(r"[a-z_][a-z0-9_]*")


def parse_directives(text: str, file: str) -> Directives:
    """Return what the head of `text` says. Raises MigrationFileError with the line of a bad or misplaced directive."""
    if "lockstep:" not in text:
        return NONE
    found: dict[str, object] = {}
    manual: list[str] = []
    allow: list[Allowance] = []
    for number, body in _head(text):
        items = _items(body, file, number)
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
    if "batch_pause_ms" in found and "repeat_until_empty" not in found:
        raise MigrationFileError("batch_pause belongs to repeat-until-empty", file=file, line=1)
    return Directives(**found, manual=tuple(manual), allow=tuple(allow))  # type: ignore[arg-type]  # checked in _value


def _head(text: str) -> list[tuple[int, str]]:
    """The directive lines of the head, as (line number, body). The head ends at the first line that is no comment."""
    lines: list[tuple[int, str]] = []
    in_block = False
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if in_block:
            in_block = "*/" not in stripped
        elif match := _LINE.fullmatch(line):
            lines.append((number, match[1]))
        elif stripped.startswith("/*"):
            in_block = "*/" not in stripped
            if not in_block and not stripped.endswith("*/"):
                break
        elif stripped and not stripped.startswith("--"):
            break
    return lines


def misplaced(text: str) -> list[int]:
    """Return the lines (from 1) of directive-like comments below the head, where they would have no effect."""
    if "lockstep:" not in text:
        return []
    heads = {number for number, _ in _head(text)}
    lines = enumerate(text.split("\n"), start=1)
    return [number for number, line in lines if number not in heads and _LINE.fullmatch(line)]


def _items(body: str, file: str, line: int) -> list[tuple[str, str | None]]:
    items: list[tuple[str, str | None]] = []
    at = 0
    while at < len(body.rstrip()):
        match = _ITEM.match(body, at)
        if match is None:
            raise MigrationFileError(
                f"cannot read the directive at: {body[at:].strip()}",
                file=file,
                line=line,
                hint='write name=value, with double quotes round a value that has spaces: irreversible="the reason"',
            )
        name = match[1].lower()
        if name not in _NAMES:
            from difflib import get_close_matches

            close = get_close_matches(name, _NAMES, n=1)
            raise MigrationFileError(
                f"unknown directive '{name}'" + (f"; did you mean '{close[0]}'?" if close else ""),
                file=file,
                line=line,
                hint="the directives are listed in docs/reference/file-format.md",
            )
        items.append((name, match[2] if match[2] is not None else match[3]))
        at = match.end()
    if not items:
        raise MigrationFileError("an empty directive", file=file, line=line)
    return items


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


def _value(name: str, value: str | None, file: str, line: int) -> tuple[str, object]:
    """The field of Directives that one item sets, and its value."""
    if name == "transaction":
        if value != "none":
            raise MigrationFileError(
                "transaction can only be 'none'; without it a file is transactional", file=file, line=line
            )
        return "transactional", False
    if name in {"lock_timeout", "statement_timeout", "batch_pause"}:
        try:
            return f"{name}_ms", parse_duration(value or "")
        except ValueError as error:
            raise MigrationFileError(f"{name}: {error}", file=file, line=line) from None
    if name == "repeat-until-empty":
        if value is not None:
            raise MigrationFileError("repeat-until-empty takes no value", file=file, line=line)
        return "repeat_until_empty", True
    if name == "uses":
        settings = tuple(part.strip() for part in (value or "").split(","))
        for setting in settings:
            if not _SETTING.fullmatch(setting):
                raise MigrationFileError(f"uses: '{setting}' is no setting name (a-z, 0-9, _)", file=file, line=line)
        return "uses", settings
    return name, _text(name, value, file, line)
