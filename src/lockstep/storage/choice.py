"""Which backup a person means. Pure; the bucket was read before."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lockstep.errors import BackupDamaged, UsageError
from lockstep.storage.folders import backup_time
from lockstep.storage.manifest import Manifest

if TYPE_CHECKING:
    from lockstep.storage.backups import Listing

LISTED = 10  # of many backups in a message

FORMS = "an id, latest, before:RUN, or a time such as 2026-11-24T10:15:00Z"


def choose(text: str, listings: Mapping[str, Listing], *, now: datetime) -> Manifest:
    """Return the one backup that is meant. Raises as Backups.resolve says."""
    there = [(name, backup) for name, listing in listings.items() for backup in listing.backups]
    if text == "latest":
        return _newest(text, listings, lambda _at: True)
    if text.startswith("before:"):
        return _before(text, listings, there)
    by_id = [manifest for _, manifest in there if manifest.id == text]
    if len(by_id) == 1:
        return by_id[0]
    if by_id:
        raise _ambiguous(text, [manifest.environment for manifest in by_id], listings)
    damaged = [key for listing in listings.values() for key in listing.unreadable if _id(key) == text]
    if damaged:
        raise BackupDamaged("the manifest cannot be read", what=damaged[0])
    if (meant := _moment(text)) is None:
        raise _none(f"no backup has the id {text}" if backup_time(text) else f"'{text}' is not {FORMS}", listings)
    moment, until = meant
    if moment > now:
        raise _none(f"'{text}' lies in the future", listings)
    return _newest(text, listings, lambda at: at < until)


def _before(text: str, listings: Mapping[str, Listing], there: list[tuple[str, Manifest]]) -> Manifest:
    run = text.removeprefix("before:")
    taken = [manifest for _, manifest in there if manifest.run_id == run]
    if taken:
        environments = {manifest.environment for manifest in taken}
        if len(environments) > 1:
            raise _ambiguous(text, sorted(environments), listings)
        return max(taken, key=lambda manifest: (manifest.attempt, manifest.taken_at))
    try:
        began = datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise _none(f"'{text}': run {run} took no backup, and its id holds no time", listings) from None
    return _newest(text, listings, lambda at: at < began)


def _newest(text: str, listings: Mapping[str, Listing], wanted: Callable[[datetime], bool]) -> Manifest:
    found = {
        name: [manifest for manifest in listing.backups if wanted(manifest.taken_at)]
        for name, listing in listings.items()
    }
    # Of a damaged manifest only the time in its folder's name is known; that is to the second.
    damaged = {
        name: [key for key in listing.unreadable if (at := backup_time(_id(key))) and wanted(at)]
        for name, listing in listings.items()
    }
    names = [name for name in listings if found[name] or damaged[name]]
    if not names:
        raise _none(f"'{text}': there is no such backup", listings)
    if len(names) > 1:
        raise _ambiguous(text, names, listings)
    (name,) = names
    best = max(found[name], key=lambda manifest: manifest.taken_at, default=None)
    if damaged[name] and (best is None or max(map(_id, damaged[name])) > best.id):
        key = max(damaged[name], key=_id)
        raise BackupDamaged(
            f"the manifest cannot be read, and it is the backup that '{text}' means; name an older one by its id",
            what=key,
        )
    assert best is not None
    return best


def _moment(text: str) -> tuple[datetime, datetime] | None:
    """Begin and end of the time that is meant: a minute, a second, or less."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", text):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    digits = text[11:].removesuffix("Z").split("+")[0].split("-")[0]
    size = timedelta(minutes=1) if digits.count(":") == 1 else timedelta(seconds=1)
    return found, found + (timedelta(microseconds=1) if "." in digits else size)


def _id(manifest_key: str) -> str:
    return manifest_key.split("/")[-2]


def _ambiguous(text: str, environments: list[str], listings: Mapping[str, Listing]) -> UsageError:
    names = ", ".join(dict.fromkeys(environments))
    return UsageError(
        f"'{text}' could be a backup of {names}\n{_listed(listings)}",
        hint=f"name the environment (--of {environments[0]}), or the backup's id",
    )


def _none(problem: str, listings: Mapping[str, Listing]) -> UsageError:
    return UsageError(f"{problem}\n{_listed(listings)}", hint="lockstep backups list")


def _listed(listings: Mapping[str, Listing]) -> str:
    there = sorted(
        (manifest for listing in listings.values() for manifest in listing.backups),
        key=lambda manifest: manifest.taken_at,
        reverse=True,
    )
    if not there:
        return f"there is no backup{f' of {next(iter(listings))}' if len(listings) == 1 else ''}"
    lines = [f"  {manifest.id}  {manifest.environment}" for manifest in there[:LISTED]]
    more = [f"  and {len(there) - LISTED} older ones"] if len(there) > LISTED else []
    return "\n".join(["there are:", *lines, *more])
