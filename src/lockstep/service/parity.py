"""Parity: the schemas of two environments against each other, object by object. Read-only everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.changes import Change, compare
from lockstep.core.drift import Difference, grouped
from lockstep.core.fingerprint import Fingerprint, Key
from lockstep.core.ignoring import Ignored, sift, sift_parity
from lockstep.core.ledger import Entry, EntryState, applied_set
from lockstep.errors import LedgerError, LedgerMissing, LockstepError
from lockstep.postgres.connection import open_session
from lockstep.postgres.fingerprint import read_live
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.states import State, read_intended
from lockstep.service.project import target_of
from lockstep.service.recording import rules_of
from lockstep.service.run import new_run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One environment of a comparison, as it is now."""

    environment: str
    target: str  # shown name
    schema: Fingerprint
    applied: frozenset[tuple[str, str | None]]  # see `applied_set`; of an environment without a ledger: none
    version: int | None  # newest applied


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Two environments side by side. CREATED is what only the right one has."""

    left: Side
    right: Side
    found: tuple[Difference, ...]
    ignored: tuple[Ignored, ...]
    reprinted: tuple[Key, ...]
    other_text: tuple[Key, ...]  # of two major versions: equal but for view text

    @property
    def same_migrations(self) -> bool:
        """Both ledgers hold the same files with the same checksums, so the schemas should be equal."""
        return self.left.applied == self.right.applied

    @property
    def absent(self) -> tuple[str, ...]:
        """Configured schemas that neither database has."""
        there = {key[1] for side in (self.left, self.right) for key in side.schema.objects if key[0] == "schema"}
        return tuple(schema for schema in self.left.schema.schemas if schema not in there)

    @property
    def out_of_parity(self) -> bool:
        return bool(self.found) and self.same_migrations


def compare_environments(settings: Settings, left: Environment, right: Environment) -> Parity:
    """Compare two live schemas. Read-only; both are read at once.

    Raises Unreachable, LedgerFiltered, LedgerError, ConfigError of either.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        one, other = pool.map(lambda environment: _side(settings, environment), (left, right))
    found = compare(one.schema, other.schema)
    kept, ignored = sift_all(settings, found.changes, left.name, right.name, one.schema, other.schema)
    return Parity(
        left=one,
        right=other,
        found=grouped(kept),
        ignored=tuple(ignored),
        reprinted=found.reprinted,
        other_text=found.other_text,
    )


def sift_all(
    settings: Settings, changes: Sequence[Change], left: str, right: str, one: Fingerprint, other: Fingerprint
) -> tuple[list[Change], list[Ignored]]:
    """Part what counts between two environments from what a rule, or their nature, takes out."""
    kept, by_rule = sift(changes, rules_of(settings), [left, right])
    kept, by_nature = sift_parity(kept, settings.drift.parity_ignores, one.roles, other.roles)
    return kept, [*by_rule, *by_nature]


def _side(settings: Settings, environment: Environment) -> Side:
    target = target_of(settings, environment, with_settings=False)
    session = open_session(target, run_id=new_run_id(), read_only=True)
    try:
        try:
            entries: tuple[Entry, ...] = read_ledger(session).entries
        except LedgerMissing:
            entries = ()
        schema = read_live(session).fingerprint
    finally:
        session.close()
    done = [entry for entry in entries if entry.state is EntryState.APPLIED]
    return Side(
        environment=environment.name,
        target=target.name,
        schema=schema,
        applied=applied_set(entries),
        version=max((entry.version for entry in done if entry.version is not None), default=None),
    )


# -- as recorded: what `status` tells without reading a schema ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedParity:
    """Two environments with the same migrations, by what their ledgers recorded."""

    left: str
    right: str
    differences: int  # 0: equal, or but for what may differ
    example: str | None = None  # one of them, in words

    @property
    def text(self) -> str:
        """Return the comparison in one line."""
        if not self.differences:
            return f"{self.left} = {self.right}: the same migrations left the same schema"
        more = f" and {self.differences - 1} more" if self.differences > 1 else ""
        return (
            f"{self.right} is out of parity with {self.left}, with the same migrations: {self.example}{more} "
            f"→ lockstep diff {self.left} {self.right}"
        )


def recorded_parity(
    settings: Settings, states: Mapping[str, tuple[State, frozenset[tuple[str, str | None]]]]
) -> tuple[RecordedParity, ...]:
    """Compare each environment with those before it, where both have the same migrations and a recorded schema.

    `states`: environment -> newest state and what is applied. Equal digests are a look-up; only where they differ are
    the recorded objects fetched. An environment that cannot be asked for them is left out.
    """
    found = []
    for name, (state, applied) in states.items():
        for before in settings.environment(name).table.after:
            if before not in states or states[before][1] != applied or not applied:
                continue
            other = states[before][0]
            if _equal(state, other):
                found.append(RecordedParity(left=before, right=name, differences=0))
                continue
            try:
                one, two = (_intended(settings, where, which) for where, which in ((before, other), (name, state)))
            except LockstepError:
                continue
            kept, _ = sift_all(settings, compare(one, two).changes, before, name, one, two)
            heads = grouped(kept)
            example = heads[0].change.label if heads else None
            found.append(RecordedParity(left=before, right=name, differences=len(heads), example=example))
    return tuple(found)


def _equal(one: State, other: State) -> bool:
    if one.major == other.major:
        return one.digest == other.digest
    return one.portable_digest == other.portable_digest


def _intended(settings: Settings, name: str, state: State) -> Fingerprint:
    session = open_session(
        target_of(settings, settings.environment(name), with_settings=False), run_id=new_run_id(), read_only=True
    )
    try:
        found = read_intended(session, state)
    finally:
        session.close()
    if found is None:
        raise LedgerError(f"{name}: the objects of its newest state are gone")
    return found
