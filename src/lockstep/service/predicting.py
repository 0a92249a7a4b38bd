"""What a run should change: the change set that the same migrations had in the environment before. Read-only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.config import Environment, Settings
from lockstep.core.changes import Mismatch, Touched, joined, mismatches
from lockstep.core.ignoring import ABSENT_ROLES, roles_in
from lockstep.core.runs import Ran, matching
from lockstep.errors import LockstepError
from lockstep.postgres.connection import open_session
from lockstep.postgres.states import read_changes, read_intended, read_states
from lockstep.service.project import target_of
from lockstep.service.recording import Recording, rules_of
from lockstep.service.run import new_run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the same migrations changed somewhere else."""

    source: str  # environment
    changes: tuple[Touched, ...]
    roles: frozenset[str] | None  # that exist there; None: not known any more


def predict(settings: Settings, environment: Environment, ran: Sequence[Ran]) -> Prediction | None:
    """Return the change set of these migrations in the environment before; None when it ran them in other company.

    An environment that cannot be asked predicts nothing.
    """
    for before in environment.table.after:
        try:
            target = target_of(settings, settings.environment(before), with_settings=False)
            session = open_session(target, run_id=new_run_id(), read_only=True)
        except LockstepError:
            continue
        try:
            states = read_states(session)
            chosen = matching([runs for _, runs in states], ran)
            if chosen is None:
                continue
            found = [states[index][0] for index in chosen]
            intended = read_intended(session, states[0][0])
            return Prediction(
                source=before,
                changes=joined(read_changes(session, found)),
                roles=intended.roles if intended else None,
            )
        except LockstepError:
            continue
        finally:
            session.close()
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a run changed, beside what was predicted."""

    text: str  # in words
    source: str | None = None  # environment that predicted it; None: nobody did
    otherwise: tuple[str, ...] = ()  # what is not as predicted, a line each


def check_changes(settings: Settings, environment: Environment, recording: Recording, ran: Sequence[Ran]) -> Checked:
    """Check what a run changed against the prediction, where there is one. Read-only."""
    count = len(recording.changes)
    what = "no object changed" if not count else "1 object changed" if count == 1 else f"{count} objects changed"
    prediction = predict(settings, environment, ran)
    if prediction is None:
        return Checked(text=what)
    found = tuple(one.text for one in _mismatches(settings, environment, recording, prediction))
    text = f"{what}, not all as on {prediction.source}:" if found else f"{what}, as on {prediction.source}"
    return Checked(text=text, source=prediction.source, otherwise=found)


def _mismatches(
    settings: Settings, environment: Environment, recording: Recording, prediction: Prediction
) -> tuple[Mismatch, ...]:
    """What a run changed otherwise than predicted, as far as environments must not differ there."""
    assert recording.after is not None
    rules, kinds = rules_of(settings), settings.drift.parity_ignores
    both = recording.after.roles & (prediction.roles if prediction.roles is not None else recording.after.roles)
    return tuple(
        one
        for one in mismatches(prediction.changes, recording.changes, recording.after)
        if one.key[0] not in kinds
        and not any(rule.fits(one.key, [environment.name, prediction.source]) for rule in rules)
        and not (ABSENT_ROLES in kinds and roles_in(one.key) - both)
    )
