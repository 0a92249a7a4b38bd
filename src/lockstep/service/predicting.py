"""What a run should change: what it did in its rehearsal, else what the same migrations did in the environment before.

Read-only there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lockstep.config import Environment, Settings
from lockstep.core.changes import Mismatch, Touched, joined, mismatches, print_of, touched
from lockstep.core.counting import counted
from lockstep.core.expressions import same_meaning
from lockstep.core.fingerprint import Key, SchemaObject
from lockstep.core.ignoring import roles_in
from lockstep.core.kinds import ABSENT_ROLES
from lockstep.core.ledger import applied_set
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.core.runs import Ran, matching
from lockstep.errors import LockstepError
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.states import UNRECORDED, read_changes, read_intended, read_newest, read_states
from lockstep.service.project import target_of
from lockstep.service.recording import Recording, rules_of
from lockstep.service.run import new_run_id

#: Names the rehearsal as where a prediction is from.
REHEARSAL = "the rehearsal"

Applied = frozenset[tuple[str, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the same migrations changed somewhere else."""

    source: str  # environment; of a rehearsal the one that was rehearsed
    major: int  # of its server
    changes: tuple[Touched, ...]
    roles: frozenset[str] | None  # that exist there; None: not known any more
    objects: Mapping[Key, SchemaObject] = field(default_factory=dict)  # of a rehearsal: what is there afterwards
    rehearsed: bool = False
    other_versions: frozenset[str] = frozenset()  # extensions that the rehearsal's copy had at another version


def predict(
    settings: Settings, environment: Environment, recording: Recording, ran: Sequence[Ran], applied: Applied
) -> Prediction | None:
    """Predict what a run should have changed by what an environment before this one became.

    Where the same migrations ran there by themselves, their change sets say it. Else, where that environment has just
    what this one has now (`applied`), each object that the run changed should be what it is there. None: it can say
    nothing, or cannot be asked.
    """
    for before in environment.table.after:
        try:
            target = target_of(settings, settings.environment(before), with_settings=False)
            session = open_session(target, run_id=new_run_id(), read_only=True)
        except LockstepError:
            continue
        try:
            found = _by_runs(session, before, ran) or _by_outcome(session, before, recording, applied)
        except LockstepError:
            continue
        finally:
            session.close()
        if found is not None:
            return found
    return None


def rehearsed(rehearsal: Rehearsal, ran: Sequence[Ran]) -> Prediction | None:
    """Return what a rehearsal predicts; None when something else ran than was rehearsed."""
    if [one.name for one in ran] != [file.name for file in rehearsal.files]:
        return None
    return Prediction(
        source=rehearsal.environment,
        major=int(rehearsal.copy.server_version.split(".")[0]),
        changes=rehearsal.changes,
        roles=frozenset(rehearsal.roles),
        objects={one.key: one for one in rehearsal.objects},
        rehearsed=True,
        other_versions=frozenset(rehearsal.copy.other_versions),
    )


def _by_runs(session: Session, source: str, ran: Sequence[Ran]) -> Prediction | None:
    states = read_states(session)
    chosen = matching([None if state.event == UNRECORDED else runs for state, runs in states], ran)
    if chosen is None:
        return None
    intended = read_intended(session, states[0][0])
    changes = joined(read_changes(session, [states[index][0] for index in chosen]))
    major = states[chosen[-1]][0].major
    return Prediction(source=source, major=major, changes=changes, roles=intended.roles if intended else None)


def _by_outcome(session: Session, source: str, recording: Recording, applied: Applied) -> Prediction | None:
    state = read_newest(session)
    if state is None or applied_set(read_ledger(session).entries) != applied:
        return None
    there = read_intended(session, state)
    if there is None:
        return None
    changes = []
    for change in touched(recording.changes):
        changes.append(replace(change, after=print_of(there.objects.get(change.key))))
    return Prediction(source=source, major=there.major, changes=tuple(changes), roles=there.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a run changed, beside what was predicted."""

    text: str  # in words
    source: str | None = None  # environment that predicted it; None: nobody did
    otherwise: tuple[str, ...] = ()  # what is not as predicted, a line each


def check_changes(
    settings: Settings,
    environment: Environment,
    recording: Recording,
    ran: Sequence[Ran],
    applied: Applied,
    *,
    rehearsal: Rehearsal | None = None,
) -> Checked:
    """Check what a run changed against the prediction, where there is one. Read-only.

    `applied`: all that the ledger holds after the run (core.ledger.applied_set). A rehearsal knows best.
    """
    count = len(recording.changes)
    what = f"{counted(count, 'object')} changed" if count else "no object changed"
    prediction = rehearsed(rehearsal, ran) if rehearsal is not None else None
    if prediction is None:
        prediction = predict(settings, environment, recording, ran, applied)
    if prediction is None:
        return Checked(text=what)
    found = tuple(one.text for one in _mismatches(settings, environment, recording, prediction))
    if prediction.rehearsed:
        text = f"{what}, not all as rehearsed" if found else f"{what}, as rehearsed"
        return Checked(text=text, source=REHEARSAL, otherwise=found)
    text = (
        f"{what}, not all as on {prediction.source} → lockstep diff {prediction.source} {environment.name}"
        if found
        else f"{what}, as on {prediction.source}"
    )
    return Checked(text=text, source=prediction.source, otherwise=found)


def _mismatches(
    settings: Settings, environment: Environment, recording: Recording, prediction: Prediction
) -> tuple[Mismatch, ...]:
    """What a run changed otherwise than predicted, as far as environments must not differ there."""
    assert recording.after is not None
    rules = rules_of(settings)
    # A rehearsal is of this very environment: nothing may differ but grants to roles that its server did not have.
    kinds = [ABSENT_ROLES] if prediction.rehearsed else settings.drift.parity_ignores
    both = recording.after.roles & (prediction.roles if prediction.roles is not None else recording.after.roles)
    return tuple(
        one
        for one in mismatches(
            prediction.changes, recording.changes, recording.after, same_major=prediction.major == recording.after.major
        )
        if one.key[0] not in kinds
        and not (one.key[0] == "extension version" and prediction.other_versions.intersection(one.key))
        and not any(rule.fits(one.key, [environment.name, prediction.source]) for rule in rules)
        and not (ABSENT_ROLES in kinds and roles_in(one.key) - both)
        and not _only_reprinted(prediction.objects.get(one.key), recording.after.objects.get(one.key))
    )


def _only_reprinted(one: SchemaObject | None, other: SchemaObject | None) -> bool:
    """What went through a dump is printed in other words, and means the same."""
    return one is not None and other is not None and same_meaning(one, other)
