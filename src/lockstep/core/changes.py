"""What differs between two fingerprints: the change set of a run, drift, or two environments side by side. Pure.

A change set is what was created, altered and dropped, object by object, with the digests before and after. It can be
laid over another fingerprint, and change sets of several runs can be joined into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from lockstep.core.expressions import same_meaning
from lockstep.core.fingerprint import Fingerprint, Key, SchemaObject, is_portable, label, portable


class Action(Enum):
    """What happened to an object, or what one side has that the other has not."""

    CREATED = "created"  # only after (only on the right)
    ALTERED = "altered"  # on both, different
    DROPPED = "dropped"  # only before (only on the left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object that is not the same before and after."""

    action: Action
    key: Key
    before: SchemaObject | None  # None: created
    after: SchemaObject | None  # None: dropped

    @property
    def label(self) -> str:
        return label(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two fingerprints side by side."""

    changes: tuple[Change, ...]  # sorted by object
    reprinted: tuple[Key, ...] = ()  # differ only in how PostgreSQL prints them after a dump's round trip
    other_text: tuple[Key, ...] = ()  # of two major versions: equal but for the text of a view, a rule, a policy
    majors: tuple[int, int] = (0, 0)

    @property
    def across_majors(self) -> bool:
        return self.majors[0] != self.majors[1]


def compare(before: Fingerprint, after: Fingerprint) -> Comparison:
    """Compare two fingerprints within the schemas that both cover.

    What differs only by a dump's round trip is equal, and told. Between two major versions the texts that PostgreSQL
    deparses in its own words are told apart, not compared.
    """
    if before.schemas != after.schemas:
        before, after = before.within(after.schemas), after.within(before.schemas)
    across = before.major != after.major
    found, reprinted, texts = [], [], []
    for key in sorted(before.objects.keys() | after.objects.keys()):
        old, new = before.objects.get(key), after.objects.get(key)
        if old is not None and new is not None and old[:6] == new[:6]:
            continue
        if across:
            if (old is None or not is_portable(old)) and (new is None or not is_portable(new)):
                continue
            if old is not None and new is not None and portable(old) == portable(new):
                if not same_meaning(old, new) and old.body is not None:
                    texts.append(key)
                continue
        if old is not None and new is not None and same_meaning(old, new):
            reprinted.append(key)
            continue
        action = Action.CREATED if old is None else Action.DROPPED if new is None else Action.ALTERED
        found.append(Change(action=action, key=key, before=old, after=new))
    return Comparison(
        changes=tuple(found), reprinted=tuple(reprinted), other_text=tuple(texts), majors=(before.major, after.major)
    )


def exact_changes(before: Fingerprint, after: Fingerprint) -> tuple[Change, ...]:
    """Return the change set between two fingerprints of one database: everything that is not equal to the letter."""
    found = []
    for key in sorted(before.objects.keys() | after.objects.keys()):
        old, new = before.objects.get(key), after.objects.get(key)
        if old is not None and new is not None and old[:6] == new[:6]:
            continue
        action = Action.CREATED if old is None else Action.DROPPED if new is None else Action.ALTERED
        found.append(Change(action=action, key=key, before=old, after=new))
    return tuple(found)


def laid_over(base: Fingerprint, changes: Iterable[Change]) -> Fingerprint:
    """Return `base` with a change set's objects as they are after it, and all others as they were."""
    objects = dict(base.objects)
    for change in changes:
        if change.after is None:
            objects.pop(change.key, None)
        else:
            objects[change.key] = change.after
    return Fingerprint(major=base.major, schemas=base.schemas, objects=objects, roles=base.roles)


# -- as they are recorded ----------------------------------------------------------------------------------------------


class Print(NamedTuple):
    """What an object is, as two digests."""

    exact: str  # within one major version
    portable: str | None  # between major versions; None: nothing that every version knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One object of a recorded change set: its digests alone."""

    key: Key
    before: Print | None  # None: was not there
    after: Print | None  # None: is not there any more


def print_of(one: SchemaObject | None) -> Print | None:
    """Return an object's digests; None for one that is not there."""
    if one is None:
        return None
    return Print(one.digest, one.portable_digest if is_portable(one) else None)


def touched(changes: Iterable[Change]) -> tuple[Touched, ...]:
    """Return what of a change set is kept for later."""
    return tuple(Touched(key=c.key, before=print_of(c.before), after=print_of(c.after)) for c in changes)


def joined(runs: Iterable[Iterable[Touched]]) -> tuple[Touched, ...]:
    """Join change sets of consecutive runs into one: first before, last after; what came back to what it was is out."""
    found: dict[Key, Touched] = {}
    for run in runs:
        for one in run:
            earlier = found.get(one.key)
            found[one.key] = one if earlier is None else Touched(key=one.key, before=earlier.before, after=one.after)
    return tuple(one for _, one in sorted(found.items()) if one.before != one.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One object that a run did not leave as it was predicted."""

    key: Key
    predicted: str  # in words: created, altered, dropped, not touched
    actual: str

    @property
    def text(self) -> str:
        return f"{label(self.key)}: expected to be {self.predicted}, was {self.actual}"


def mismatches(
    predicted: Iterable[Touched], actual: Iterable[Change], after: Fingerprint, *, same_major: bool
) -> tuple[Mismatch, ...]:
    """Compare what a run did with what was predicted, object by object, by what each object is afterwards.

    What was there already as predicted is as good as made. What was not predicted should not have been touched.
    `same_major`: the prediction is from a server of this major version, so texts that it deparses compare as well.
    """
    expected: Mapping[Key, Touched] = {one.key: one for one in predicted}
    found: Mapping[Key, Touched] = {one.key: one for one in touched(actual)}
    wrong = []
    for key in sorted(expected.keys() | found.keys()):
        one, other = expected.get(key), found.get(key)
        end = _seen_as(print_of(after.objects.get(key)), same_major)
        if one is not None and _seen_as(one.after, same_major) == end:
            continue
        if one is None and other is not None and _seen_as(other.before, same_major) == end:
            continue  # of another major version: nothing that this one would tell apart
        word = _word(other)
        if one is not None and word == _word(one):
            word = f"{word} in another way"
        wrong.append(Mismatch(key=key, predicted=_word(one), actual=word))
    return tuple(wrong)


def _seen_as(one: Print | None, same_major: bool) -> str | None:
    return None if one is None else one.exact if same_major else one.portable


def _word(one: Touched | None) -> str:
    if one is None:
        return "not touched"
    return "created" if one.before is None else "dropped" if one.after is None else "altered"
