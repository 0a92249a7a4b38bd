"""How differences between schemas are shown, by `drift` and `diff` alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lockstep.cli import words
from lockstep.cli.terminal import paint, show
from lockstep.core.counting import counted
from lockstep.core.drift import definition_diff
from lockstep.core.fingerprint import label
from lockstep.core.remedy import remedy

if TYPE_CHECKING:
    from lockstep.core.drift import Difference
    from lockstep.core.fingerprint import Key
    from lockstep.core.ignoring import Ignored

#: Lines of a definition; --json has them whole.
LINES = 30
UNDO_LINES = 4


def show_difference(
    one: Difference,
    *,
    word: str | None = None,
    when: str | None = None,
    undo: bool = True,
    renamed: frozenset[Key] = frozenset(),
) -> None:
    """Print one difference: what it is, its definition, when it was made, how to take it back."""
    change = one.change
    colour = {"created": "green", "dropped": "red"}.get(change.action.value, "yellow")
    head = f"{word or words.action(change.action)} {words.safe(change.label)}"
    parts = f" ({one.parts_text})" if one.parts else ""
    show(f"  {paint(head, colour)}{parts}")
    lines = definition_diff(change)
    for text in lines[:LINES]:
        if text:
            show(f"      {words.safe(text)}")
    if len(lines) > LINES:
        show(f"      … {counted(len(lines) - LINES, 'more line')}: --json")
    if when:
        show(f"    {when}")
    if change.key in renamed:
        show("    perhaps one column under another name: one went and one came with the same definition")
    found = remedy(one, renamed) if undo else None
    if found is not None and found.undo.count("\n") > UNDO_LINES:
        show(f"    take it back: {found.undo.count(chr(10)) + 1} lines of SQL (--json has them)")
    elif found is not None:
        first, *rest = found.undo.splitlines()
        show(f"    take it back: {words.safe(first)}")
        for text in rest:
            show(f"                  {words.safe(text)}")
        if found.note:
            show(f"                  ({found.note})")


def ignored_line(ignored: Sequence[Ignored], reprinted: Sequence[Key], other_text: Sequence[Key]) -> str:
    """Return one line about what does not count, and why; empty when there is nothing."""
    said = [f"{count} × {reason}" for reason, count in Counter(one.reason for one in ignored).most_common()]
    if reprinted:
        said.append(f"{len(reprinted)} printed otherwise after a restore, the same in meaning")
    if other_text:
        said.append(f"{len(other_text)} equal but for view text, which another major version words otherwise")
    return f"  not counted: {'; '.join(words.safe(text) for text in said)}" if said else ""


def difference_document(one: Difference, renamed: frozenset[Key] = frozenset()) -> dict[str, Any]:
    """One difference as JSON documents hold it."""
    change = one.change
    found = remedy(one, renamed)
    return {
        "action": change.action.value,
        "object": change.label,
        "kind": change.key[0],
        "schema": change.key[1] or None,
        "parent": change.key[2] or None,
        "name": change.key[3] or None,
        "before": None if change.before is None else {"definition": change.before.text, "digest": change.before.digest},
        "after": None if change.after is None else {"definition": change.after.text, "digest": change.after.digest},
        "parts": [part.label for part in one.parts],
        "keep_sql": found.keep if found else None,
        "undo_sql": found.undo if found else None,
        "undo_note": found.note if found else None,
        "maybe_renamed": change.key in renamed,
    }


def ignored_documents(
    ignored: Sequence[Ignored], reprinted: Sequence[Key], other_text: Sequence[Key]
) -> dict[str, Any]:
    """What does not count, as JSON documents hold it."""
    return {
        "ignored": [{"object": one.change.label, "reason": one.reason} for one in ignored],
        "reprinted": [label(key) for key in reprinted],
        "other_text": [label(key) for key in other_text],
    }
