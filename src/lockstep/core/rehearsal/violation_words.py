"""Failures on the data in words: what is wrong with which rows, and how to find them all. No value of a row but keys.

Where nothing may be quoted (`[privacy] excerpts`), neither keys nor the file's own expressions.
"""

from __future__ import annotations

from typing import Protocol

from lockstep.core import privacy
from lockstep.core.counting import counted
from lockstep.core.rehearsal.violations import Check, Duplicate, Misfit, Null, Orphan, Violation
from lockstep.core.text import printable
from lockstep.errors import MigrationFailed


class Found(Protocol):
    """What a look at the copy found."""

    @property
    def rows(self) -> int | None: ...
    @property
    def exact(self) -> bool: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    @property
    def groups(self) -> int | None: ...
    @property
    def finding(self) -> str | None: ...


_LONGEST = 120  # characters of an expression


def violation_words(violation: Violation, table: str, found: Found) -> str:
    """Return one line: `public.users: 2 rows have the same value in (email), for example id = 17 and id = 23`."""
    one = found.rows == 1 and found.exact
    count = "some rows" if found.rows is None else counted(found.rows, "row")
    if not found.exact and found.rows is not None:
        count = f"at least {count}"
    if isinstance(violation, Duplicate):
        parts = f"({', '.join(_bare(one) for one in violation.parts)})"
        what = f"have the same value in {parts}"
        if found.groups is not None and found.groups > 1:
            what = f"share one of {found.groups:,} values in {parts}"
        if violation.where:
            what += f" among those WHERE {_cut(violation.where)}"
    elif isinstance(violation, Null):
        what = f"{'has' if one else 'have'} no value in {violation.column}"
    elif isinstance(violation, Check):
        what = f"{'breaks' if one else 'break'} CHECK ({_cut(violation.expression)})"
    elif isinstance(violation, Orphan):
        what = (
            f"{'refers' if one else 'refer'} with ({', '.join(violation.columns)}) to "
            f"{'a row' if one else 'rows'} of {violation.referenced.shown} that {'is' if one else 'are'} not there"
        )
    elif isinstance(violation, Misfit):
        what = f"{'has' if one else 'have'} a value in {violation.column} that does not become {violation.type_name}"
    else:
        what = f"{'breaks' if one else 'break'} {violation.constraint}"
    return f"{table}: {count} {what}{_examples(found)}"


def _bare(part: str) -> str:
    """A column, or an expression without the parentheses round it."""
    return _cut(part[1:-1]) if part.startswith("(") else part


def _examples(found: Found) -> str:
    if not found.keys or not privacy.quoting():
        return ""
    keys = [
        printable(key) for key in found.keys
    ]  # for a terminal and for Markdown: of a key that is a text anybody wrote
    words = f"{', '.join(keys[:-1])} and {keys[-1]}" if len(keys) > 1 else keys[0]
    return f": {words}" if found.exact and found.rows == len(found.keys) else f", for example {words}"


def _cut(text: str) -> str:
    if not privacy.quoting():
        return "an expression"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def advice_words(violation: Violation, found: Found) -> str:
    """Return what to do about the rows, with SQL that finds them."""
    how = "mend these rows in a migration before this one"
    if isinstance(violation, Misfit):
        how = f"{how}, or say in USING what becomes of them"
    return f"{how}; this finds them:\n{found.finding}" if found.finding and privacy.quoting() else how


#: What a class or a code of SQLSTATE means, where the server's own words hold, or may hold, what rows hold.
_MEANINGS = {
    "22001": "a text is longer than its column allows",
    "22003": "a number is out of its type's range",
    "22007": "a text is no date or time",
    "22008": "a date or time is out of range",
    "22012": "a division by zero",
    "22P02": "a text is no valid input of its new type",
    "22P04": "the data of a COPY is not in its format",
    "23001": "a row is still referred to",
    "P0001": "the file raises an error of its own",
    "P0004": "a check of its own is not true",
}
#: What the server says of these names objects and types, whoever asked for them; code may raise them as well.
_NAMES_ALONE = frozenset({"42P01", "42703", "42883", "42704", "42501", "3F000"})
_CLASSES = {"22": "a value does not fit", "38": "a function in another language failed", "P0": "an error in PL/pgSQL"}


def in_authors_words(error: MigrationFailed) -> bool:
    """Tell whether code may have raised it, so that its text is anybody's, with whatever value in it."""
    failing = error.failing
    if failing is None or not failing.in_code:
        return False
    return not failing.looked_up or error.sqlstate not in _NAMES_ALONE


def general_words(error: MigrationFailed) -> str:
    """Return what failed, where the rows are not known: the server's words, unless they may hold a value."""
    state, failing = error.sqlstate or "unknown", error.failing
    meaning = _MEANINGS.get(state) or _CLASSES.get(state[:2])
    if meaning is None and in_authors_words(error):
        meaning = "code that it runs raises an error"
    if meaning is None:
        meaning = printable(failing.primary) if failing else "it failed"
    if failing is not None and failing.at_commit:
        meaning = f"at COMMIT: {meaning}"
    if failing is not None and failing.table and failing.constraint and failing.constraint not in meaning:
        meaning += f" (constraint {failing.constraint} of {failing.table})"
    return f"{meaning} (SQLSTATE {state})"
