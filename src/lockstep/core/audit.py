"""What is known of an audit log: its chain, heads of it that were noted elsewhere, and whether these fit. Pure.

A chain proves its rows but not its end: only a head that somebody else keeps (a backup's manifest, a run's report)
shows that the newest rows are missing, or that all hashes were computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from lockstep.errors import LockstepError


class Fault(Enum):
    """Why a row does not fit into the chain."""

    EMPTY = "the log is empty, and it always holds how the ledger was made"
    BEGINNING = "it is not the first row: rows before it are missing, and no prune recorded them"
    MISSING = "rows before it are missing"
    CHANGED = "its hash is not that of what it holds: it was changed, moved or inserted"
    UNLINKED = "it does not continue the row before it: that one was replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRow:
    """The first row that does not fit."""

    number: int  # its id; 0: there is no row at all
    fault: Fault
    at: datetime | None  # when it says that it was written
    event: str | None  # what it says that it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """What a `prune` left in the log for the rows that it removed."""

    number: int  # of the `prune` row itself
    at: datetime
    up_to: int  # the last row that was removed
    hash: str  # of that row
    key: str | None  # of the export in the bucket
    sha256: str | None  # of the exported object's bytes
    size: int | None  # of it, bytes
    plain_sha256: str | None  # of it before encryption; None: not encrypted
    encrypted_to: tuple[str, ...]  # age public keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What verifying the audit log's chain gave."""

    length: int  # rows that are there
    first: int  # number of the oldest of them; 0: none
    newest: int  # number of the newest of them; 0: none
    head: str  # hash of the newest row; "" when empty
    broken: BrokenRow | None  # the first row that does not fit; None: whole
    anchor: Anchor | None  # of the newest prune; None: nothing was ever pruned

    @property
    def broken_at(self) -> int | None:
        """Number of the first row that does not fit; None: whole."""
        return self.broken.number if self.broken else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHead:
    """Where the log once ended, as somebody outside of the database noted it."""

    number: int  # of the newest row then
    hash: str  # of it, hex; the first characters will do
    at: datetime | None  # when that was; None: not known
    source: str  # who says so, in words: `backup 20261124T101500Z-RUN`


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A `restore` event: the log was that of a backup then, and went on from its end."""

    number: int  # of the `restore` row
    at: datetime
    backup: str  # its id
    of: str  # environment that the backup is one of
    previous_hash: str  # hash of the row before: the end of the backup's log


class Standing(Enum):
    """How a known head stands to the log of now."""

    FITS = "fits"
    PRUNED = "pruned"  # its row was exported and removed
    REPLACED = "replaced"  # it is of the log that a restore replaced
    MISSING = "missing"  # the log ends before it
    DIFFERS = "differs"  # the row of that number is another one


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedHead:
    """A known head, and how it stands to the log."""

    head: KnownHead
    standing: Standing
    restore: Restore | None = None  # that explains it

    @property
    def is_wrong(self) -> bool:
        return self.standing in {Standing.MISSING, Standing.DIFFERS}


def judge_heads(
    heads: Iterable[KnownHead],
    hashes: Mapping[int, str],
    chain: Chain,
    restores: Sequence[Restore],
    environment: str,
) -> tuple[JudgedHead, ...]:
    """Compare known heads with the log, oldest number first. `hashes`: of the rows that are there, by number.

    A head that does not fit is explained by a restore that came after it, when the restored log was cut before the
    head's row (or was another environment's log altogether). Nothing else explains one: a database that was replaced
    by other means cannot be told from one whose log was rewritten.
    """
    return tuple(
        _judged(head, hashes, chain, restores, environment) for head in sorted(heads, key=lambda head: head.number)
    )


def _judged(
    head: KnownHead, hashes: Mapping[int, str], chain: Chain, restores: Sequence[Restore], environment: str
) -> JudgedHead:
    there = hashes.get(head.number)
    if there is None and chain.anchor is not None and chain.anchor.up_to == head.number:
        there = chain.anchor.hash
    if there is not None and there.startswith(head.hash):
        return JudgedHead(head=head, standing=Standing.FITS)
    if head.number == 0 and chain.length == 0:
        return JudgedHead(head=head, standing=Standing.FITS)
    for restore in restores:
        if (
            head.at is not None
            and head.at < restore.at
            and (restore.of != environment or restore.number <= head.number)
        ):
            return JudgedHead(head=head, standing=Standing.REPLACED, restore=restore)
    if there is None and chain.anchor is not None and head.number < chain.first:
        return JudgedHead(head=head, standing=Standing.PRUNED)
    return JudgedHead(head=head, standing=Standing.MISSING if there is None else Standing.DIFFERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadCheck:
    """What comparing a log with all that is known of it outside of its database gave."""

    heads: tuple[JudgedHead, ...] = ()  # by number
    passed_over: int = 0  # heads of a time before the one that was asked for
    unreadable: tuple[str, ...] = ()  # keys of manifests that cannot be read, so that their heads are not known
    false_restores: tuple[Restore, ...] = ()  # `restore` rows that do not continue the backup that they name
    export: str | None = None  # what is wrong with the export of the rows that were pruned; None: nothing, or none
    trouble: LockstepError | None = None  # why heads that there may be could not be read

    @property
    def wrong(self) -> tuple[JudgedHead, ...]:
        """The heads that the log does not fit, by number."""
        return tuple(one for one in self.heads if one.is_wrong)

    @property
    def is_wrong(self) -> bool:
        """Whether the log is not what was seen of it."""
        return bool(self.wrong or self.false_restores)

    @property
    def newest(self) -> KnownHead | None:
        """The newest head that fits."""
        fitting = [one.head for one in self.heads if one.standing is Standing.FITS]
        return max(fitting, key=lambda head: head.number, default=None)

    def count(self, standing: Standing) -> int:
        return sum(one.standing is standing for one in self.heads)


def false_restores(restores: Iterable[Restore], ends: Mapping[tuple[str, str], KnownHead]) -> tuple[Restore, ...]:
    """Return the restores that cannot be true: the backup's log did not end where the `restore` row continues.

    `ends`: where the logs of the backups ended, by environment and backup; one that is not known proves nothing.
    """
    found = []
    for restore in restores:
        end = ends.get((restore.of, restore.backup))
        if end is not None and (end.number + 1, end.hash) != (restore.number, restore.previous_hash):
            found.append(restore)
    return tuple(found)


# -- pruning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A row that must stay, and with it all that are newer."""

    number: int
    why: str  # for a person


def last_to_go(
    wanted: int, needed: Iterable[Needed], undone: Sequence[tuple[int, int]]
) -> tuple[int, tuple[Needed, ...]]:
    """Return the last row that may go, and what stopped the cut before `wanted`, the last row that was asked for.

    `undone`: (event that was taken back, event that took it back): they go together or stay together. 0: nothing goes.
    """
    cut, stops = wanted, []
    for one in sorted(needed, key=lambda one: one.number):
        if one.number <= cut:
            cut = one.number - 1
        if one.number <= wanted:
            stops.append(one)
    while straddling := [pair for pair in undone if pair[0] <= cut < pair[1]]:
        earlier, later = min(straddling)
        cut = earlier - 1
        stops.append(Needed(number=earlier, why=f"event {later}, which stays, took it back"))
    binding = tuple(one for one in stops if one.number == cut + 1) or tuple(stops[:1])
    return cut, binding


def anchor_details(details: Mapping[str, Any], number: int, at: datetime) -> Anchor | None:
    """Return what a `prune` row says; None when it is none of ours."""
    try:
        return Anchor(
            number=number,
            at=at,
            up_to=int(details["up_to"]),
            hash=str(details["hash"]),
            key=text_of(details, "key"),
            sha256=text_of(details, "sha256"),
            size=size if type(size := details.get("size")) is int else None,
            plain_sha256=text_of(details, "plain_sha256"),
            encrypted_to=tuple(str(one) for one in details.get("encrypted_to") or ()),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def text_of(details: Mapping[str, Any], name: str) -> str | None:
    """Return a text of a row's details; None where it is missing or something else, which no code of ours writes."""
    value = details.get(name)
    return value if isinstance(value, str) else None
