"""Which backup is meant: exactly one, or an error that says what there is. An older one never stands in for another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lockstep.errors import BackupDamaged, UsageError
from lockstep.storage.backups import Listing
from lockstep.storage.choice import choose
from lockstep.storage.manifest import Manifest
from lockstep.storage.verification import Level, Verification, standing
from tests.manifests import manifest

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OLD, MIDDLE, NEW = (NOW - timedelta(hours=hours) for hours in (30, 20, 10))


def listing(*backups: Manifest, unreadable: tuple[str, ...] = ()) -> Listing:
    return Listing(backups=tuple(sorted(backups, key=lambda one: one.taken_at)), unreadable=unreadable)


def at(moment: datetime, run: str = "r", **more: Any) -> Manifest:
    return manifest(taken_at=moment, run_id=run, **more)


ONE = {"prod": listing(at(OLD), at(MIDDLE), at(NEW))}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("latest", NEW),
        (at(MIDDLE).id, MIDDLE),
        ("2026-11-23 16:00", MIDDLE),  # taken then
        ("2026-11-23T15:59:59Z", OLD),
        ("2026-11-23T17:00:00+01:00", MIDDLE),
        ("2026-11-24T12:00:00.000Z", NEW),
        ("before:20261123-160000-3f9a", OLD),
        ("before:20261123-160001-3f9a", MIDDLE),
    ],
)
def test_what_a_person_writes_means_one_backup(text: str, meant: datetime) -> None:
    assert choose(text, ONE, now=NOW).taken_at == meant


def test_before_a_run_means_the_backup_that_it_took_last() -> None:
    run = "20261123-100000-3f9a"
    first, second, late = at(OLD, run), at(MIDDLE, run, attempt=2), at(NEW, "other")
    assert choose(f"before:{run}", {"prod": listing(first, second, late)}, now=NOW) == second


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("yesterday", "is not an id, latest, before:RUN, or a time"),
        ("", "is not an id"),
        ("2026-13-01 10:00", "is not an id"),
        ("2026-11-24", "is not an id"),
        ("20261124T020001Z-r", "no backup has the id"),
        ("2026-11-01 10:00", "there is no such backup"),
        ("2027-11-01 10:00", "lies in the future"),
        ("before:nightly", "run nightly took no backup, and its id holds no time"),
        ("before:20251123-160000-3f9a", "there is no such backup"),
    ],
)
def test_what_means_none_is_refused_with_what_there_is(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        choose(text, ONE, now=NOW)
    assert all(backup.id in str(caught.value) for backup in ONE["prod"].backups)


def test_many_backups_are_not_all_listed() -> None:
    many = {"prod": listing(*(at(NOW - timedelta(hours=hours)) for hours in range(1, 40)))}
    with pytest.raises(UsageError, match="and 29 older ones"):
        choose("yesterday", many, now=NOW)
    with pytest.raises(UsageError, match="there is no backup of prod"):
        choose("latest", {"prod": listing()}, now=NOW)


def test_what_could_be_of_several_environments_is_refused() -> None:
    both = {"dev": listing(at(OLD, environment="dev")), "prod": listing(at(NEW), at(MIDDLE, "a"))}
    for text in ("latest", "2026-11-24 11:00", "before:20261124-110000-3f9a"):
        with pytest.raises(UsageError, match="could be a backup of dev, prod"):
            choose(text, both, now=NOW)
    assert choose(at(NEW).id, both, now=NOW).environment == "prod"
    assert choose("latest", {**both, "dev": listing()}, now=NOW).taken_at == NEW
    same = {"dev": listing(at(NEW, environment="dev")), "prod": listing(at(NEW))}
    for text in (at(NEW).id, "before:r"):
        with pytest.raises(UsageError, match="could be a backup of dev, prod"):
            choose(text, same, now=NOW)


def test_a_damaged_manifest_is_never_passed_over_in_silence() -> None:
    key = "team/prod/20261124T030000Z-x/manifest.json"
    damaged = {"prod": listing(at(OLD), at(NEW), unreadable=(key,))}
    for text in ("latest", "20261124T030000Z-x", "2026-11-24 11:00", "before:20261124-110000-3f9a"):
        with pytest.raises(BackupDamaged) as caught:
            choose(text, damaged, now=NOW)
        assert caught.value.what == key
    assert choose("2026-11-24 02:30", damaged, now=NOW).taken_at == NEW


# -- where a backup stands --------------------------------------------------------------------------------------------


def proof(level: Level, hours: int, ok: bool = True) -> Verification:
    return Verification(
        level=level, ok=ok, at=NOW + timedelta(hours=hours), duration_ms=1, run_id="r", tool_version="1"
    )  # fmt: skip


def test_the_strongest_proof_counts_until_a_failure() -> None:
    assert standing([]) == standing([]) and standing([]).level is None and not standing([]).failed
    restored, digests = proof(Level.RESTORED, 1), proof(Level.DIGESTS, 2)
    found = standing([digests, restored])
    assert (found.level, found.at) == (Level.RESTORED, restored.at)
    failure = proof(Level.ARCHIVE, 3, ok=False)
    found = standing([restored, failure, digests])
    assert (found.level, found.at, found.failed) == (None, failure.at, True)


def test_a_weaker_proof_does_not_lift_a_failure_and_an_equal_one_does() -> None:
    failure = proof(Level.ARCHIVE, 1, ok=False)
    assert standing([failure, proof(Level.DIGESTS, 2)]).failed
    for level in (Level.ARCHIVE, Level.RESTORED):
        assert standing([failure, proof(level, 2)]).level is level
    assert standing([failure, proof(Level.ARCHIVE, 2), proof(Level.DIGESTS, 3)]).level is Level.ARCHIVE
