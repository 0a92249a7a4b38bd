"""The error tree: every class says what to do next or carries its data, and survives pickling."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from lockstep import errors
from lockstep.core.planner import Reason, Refusal
from lockstep.errors import ExitCode, LockstepError


def _all(cls: type[LockstepError]) -> Iterator[type[LockstepError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _all(child)


SAMPLES: dict[str, object] = {
    "problem": "broken", "file": "001-a.sql", "line": 3, "column": 4, "excerpt": "x", "hint": "do this", "where": "f:1",
    "target": "prod (h/d)", "killed": True, "reasons": (Refusal(reason=Reason.CHANGED, message="m"),),
    "expected": "a" * 64, "actual": "b" * 64, "changed": ("001-a.sql",), "environment": "prod", "ledger": "public.l",
    "tool": "Rails", "role": "r", "owner": "o", "holder": "run 1", "asks": "run-2", "sqlstate": "23514", "outcome": "0 of 1 done",
    "detail": "d", "reason": "refused", "retryable": True, "denied": True, "program": "pg_dump", "major": 17, "looked_in": ("/usr",),
    "log": "tail", "version": 2, "message": "m", "cause": "c", "bucket": "b", "status": 404, "code": "X", "kind": "k", "action": "applied",
    "what": "k/d", "encrypted_to": ("age1x",), "have": (), "since": "by the last run", "lines": ("index a was added",),
    "more_lines": 2, "source": "dev", "rehearsed": True, "problems": "  failed: x", "more": 2, "found": True, "again": "deploy", "back": "lockstep revert dev --to 1", "hopeless": False,
    "how": "rejected", "by": "alice@laptop", "run_id": "20261130-120000-abcd", "ways_back": ("revert",),
    "failing": errors.Failing(primary="p", statement=1, table="t"), "command": "lockstep revert prod --to 2",
    "gated": True,
}  # fmt: skip


def _sample(cls: type[LockstepError]) -> LockstepError:
    import inspect

    parameters = inspect.signature(cls.__init__).parameters
    positional, keywords = [], {}
    for name, parameter in parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            positional.append(SAMPLES[name])
        else:
            keywords[name] = SAMPLES[name]
    return cls(*positional, **keywords)  # type: ignore[arg-type]  # built from the signature


CLASSES: list[type[LockstepError]] = sorted(set(_all(LockstepError)), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", CLASSES, ids=str)
def test_every_error_survives_pickling(cls: type[LockstepError]) -> None:
    error = _sample(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__
    assert isinstance(again.exit_code, ExitCode)


def test_the_docstring_draws_every_class() -> None:
    drawn = errors.__doc__ or ""
    assert [c.__name__ for c in CLASSES if c.__name__ not in drawn] == []


def test_the_worst_reason_decides_the_exit_code() -> None:
    reasons = (Refusal(reason=Reason.CHANGED, message="a"), Refusal(reason=Reason.DUPLICATE, message="b"))
    assert errors.PlanRefused(target="t", reasons=reasons).exit_code == ExitCode.REFUSED
