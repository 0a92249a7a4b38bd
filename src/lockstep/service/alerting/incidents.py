"""Which alerts are told, and which are only counted: by the incidents in the bucket, which every process shares.

Without a bucket, or when it does not answer, each alert is told: better twice than not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from lockstep.config import Settings
from lockstep.core.alert import DEPLOY, LASTING, Alert
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
        # What a scheduled run finds is told once, as long as it lasts: nobody reads the same thing every morning.
        silent = old is not None and old.told_at is not None and (alert.source != DEPLOY or now - old.told_at < after)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is different from the last look."""

    new: tuple[Alert, ...]  # to be told
    over: tuple[Incident, ...]  # was told, and nothing of its kind is left


class Stores:
    """The incidents of several environments in one bucket. One that does not answer is asked once, and not for each."""

    def __init__(self, bucket: Bucket | None) -> None:
        self._bucket = bucket

    def of(self, environment: str | None) -> IncidentStore | None:
        return None if self._bucket is None else IncidentStore(self._bucket, environment)

    def lost(self) -> None:
        self._bucket = None


@contextmanager
def opened(settings: Settings) -> Iterator[Stores]:
    """Open the bucket once for several environments."""
    with _bucket(settings) as bucket:
        yield Stores(bucket)


def reconcile(
    stores: Stores, environment: str | None, alerts: Sequence[Alert], *, source: str, judged: Callable[[str], bool]
) -> Changes:
    """Note what `source` found of an environment now, and return what is new, and what is over. Never raises.

    An incident stays as it was where `judged` says that it could not have been found. It is over when nothing of its
    kind is left; told again when it got worse; and what reached nobody is new again.
    """
    now = datetime.now(UTC)

    def noted(there: tuple[Incident, ...]) -> tuple[tuple[Incident, ...], Changes]:
        mine = {one.id: one for one in there if one.source == source}
        kept: dict[str, Incident] = {}
        new = []
        for alert in alerts:
            old = mine.get(alert.incident)
            kept[alert.incident] = made = replace(_incident(alert, now), first_at=old.first_at if old else now)
            if old is None or old.told_at is None or _worse(alert.about, old.about):
                new.append(alert)
            else:
                kept[alert.incident] = replace(made, told_at=old.told_at, repeats=old.repeats + 1)
        gone = [one for one in mine.values() if one.id not in kept and judged(one.about)]
        kept |= {one.id: one for one in mine.values() if one.id not in kept and one not in gone}
        groups = {group_of(one.about) for one in kept.values()}
        over = tuple(
            one
            for one in gone
            if one.occasion in LASTING and one.told_at is not None and group_of(one.about) not in groups
        )
        others = tuple(one for one in there if one.source != source)
        return (*others, *kept.values()), Changes(new=tuple(new), over=over)

    store = stores.of(environment)
    if store is None:
        return Changes(new=tuple(alerts), over=())
    try:
        return store.change(noted)
    except LockstepError:
        stores.lost()
        return Changes(new=tuple(alerts), over=())


def unnoted(stores: Stores, environment: str | None, ids: Collection[str]) -> None:
    """Note that some alerts reached nobody, so that they are told next time. Never raises."""
    store = stores.of(environment)
    if store is not None:
        _quietly(
            store, lambda there: (tuple(replace(one, told_at=None) if one.id in ids else one for one in there), None)
        )


def group_of(about: str) -> str:
    """Return what is over together: `critical/dead-rows` is of `critical`."""
    return about.split("/", 1)[0]


def _worse(now: str, before: str) -> bool:
    return group_of(now) == "critical" and group_of(before) == "warning"


def _quietly(
    store: IncidentStore, change: Callable[[tuple[Incident, ...]], tuple[tuple[Incident, ...], T]]
) -> T | None:
    try:
        return store.change(change)
    except LockstepError:
        return None


@contextmanager
def _store(settings: Settings, environment: str | None) -> Iterator[IncidentStore | None]:
    with _bucket(settings) as bucket:
        yield None if bucket is None else IncidentStore(bucket, environment)


@contextmanager
def _bucket(settings: Settings) -> Iterator[Bucket | None]:
    try:
        bucket = Bucket(bucket_settings(settings), patience=_PATIENCE) if settings.backup else None
    except LockstepError:
        bucket = None
    if bucket is None:
        yield None
        return
    with bucket:
        yield bucket


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
        about=alert.about,
    )
