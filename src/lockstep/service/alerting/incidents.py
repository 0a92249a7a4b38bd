"""Which alerts are told, and which are only counted: by the incidents in the bucket, which every process shares.

Without a bucket, or when it does not answer, each alert is told: better twice than not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from lockstep.config import Settings
from lockstep.core.alert import LASTING, Alert
from lockstep.core.duration import parse_duration
from lockstep.errors import LockstepError
from lockstep.service.store import bucket_settings
from lockstep.storage.bucket import Bucket, Patience
from lockstep.storage.incidents import Incident, IncidentStore

T = TypeVar("T")

_PATIENCE = Patience(connect=3.0, read=5.0, attempts=2)
_KEPT = timedelta(days=90)  # one that nobody noticed for so long is forgotten


def claim(settings: Settings, alert: Alert) -> Alert | None:
    """Note an alert; return it as it is to be told, or None when it was told already. Never raises.

    Of several processes that call this for the same incident one gets it.
    """
    now = datetime.now(UTC)
    after = timedelta(milliseconds=parse_duration(settings.alerts.repeat_after))

    def noted(there: tuple[Incident, ...]) -> tuple[tuple[Incident, ...], Alert | None]:
        others = tuple(one for one in there if one.id != alert.incident and one.last_at > now - _KEPT)
        old = next((one for one in there if one.id == alert.incident), None)
        silent = old is not None and old.told_at is not None and now - old.told_at < after
        if old is None:
            made, told = _incident(alert, now), alert
        elif silent:
            made, told = replace(old, last_at=now, run_id=alert.run_id, repeats=old.repeats + 1), None
        else:
            made, told = replace(old, last_at=now, run_id=alert.run_id, told_at=now, repeats=0), alert
            told = replace(alert, repeats=old.repeats)
        return (*others, made), told

    with _store(settings, alert.environment) as store:
        if store is None:
            return alert
        try:
            return store.change(noted)
        except LockstepError:
            return alert


def undelivered(settings: Settings, alert: Alert) -> None:
    """Note that an alert reached nobody, so that the next one is told. Never raises."""

    def unnoted(there: tuple[Incident, ...]) -> tuple[tuple[Incident, ...], None]:
        return tuple(
            replace(one, told_at=None, repeats=alert.repeats + 1) if one.id == alert.incident else one for one in there
        ), None

    with _store(settings, alert.environment) as store:
        if store is not None:
            _quietly(store, unnoted)


def close(settings: Settings, environment: str | None, source: str) -> Sequence[Incident]:
    """Forget what `source` noticed of an environment, and return what of it was told and is over. Never raises."""

    def closed(there: tuple[Incident, ...]) -> tuple[tuple[Incident, ...], tuple[Incident, ...]]:
        over = tuple(one for one in there if one.source == source)
        told = tuple(one for one in over if one.occasion in LASTING and one.told_at is not None)
        return tuple(one for one in there if one not in over), told

    with _store(settings, environment) as store:
        return () if store is None else (_quietly(store, closed) or ())


def open_incidents(settings: Settings, environment: str | None) -> Sequence[Incident]:
    """Return what is open. Never raises."""
    with _store(settings, environment) as store:
        try:
            return () if store is None else store.read()
        except LockstepError:
            return ()


def _quietly(
    store: IncidentStore, change: Callable[[tuple[Incident, ...]], tuple[tuple[Incident, ...], T]]
) -> T | None:
    try:
        return store.change(change)
    except LockstepError:
        return None


@contextmanager
def _store(settings: Settings, environment: str | None) -> Iterator[IncidentStore | None]:
    try:
        bucket = Bucket(bucket_settings(settings), patience=_PATIENCE) if settings.backup else None
    except LockstepError:
        bucket = None
    if bucket is None:
        yield None
        return
    with bucket:
        yield IncidentStore(bucket, environment)


def _incident(alert: Alert, now: datetime) -> Incident:
    return Incident(
        id=alert.incident,
        occasion=alert.occasion,
        source=alert.source,
        headline=alert.headline,
        run_id=alert.run_id,
        first_at=now,
        last_at=now,
        told_at=now,
        repeats=0,
    )
