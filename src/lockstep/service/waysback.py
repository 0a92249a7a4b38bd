"""The ways back from what a run left: revert and restore, with the times that its rehearsal measured. Read-only.

The rehearsal's document lies in the bucket; without a bucket the ledger knows how long the downs took on the copy.
"""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

from lockstep.config import Settings
from lockstep.core.explanation import Place
from lockstep.core.ledger import Entry, EntryState
from lockstep.core.moments import utc_minute
from lockstep.core.rehearsal.proof import WayBack
from lockstep.core.rehearsal.report import Rehearsal
from lockstep.errors import LockstepError
from lockstep.service.tracing import Traced
from lockstep.storage.folders import backup_time

PATIENCE = 8.0  # seconds for the bucket


def measured(settings: Settings, traced: Traced, unseen: list[str]) -> Place:
    """Return the place with its ways back, where the run left something to take back. What was not seen is added."""
    place = traced.place
    if not place.changed or place.reverted:
        return place
    document = _document(settings, traced, unseen) if traced.rehearsal_key else None
    revert = _by_ledger(traced, document)
    restore = next((one for one in document.ways_back if one.how == "restore"), None) if document else None
    if restore is not None and document is not None:
        restore = replace(restore, command=_restore(document.copy.backup, place.environment))
    elif place.backup is not None:
        restore = WayBack(
            how="restore",
            ms=None,
            loses="everything written since that backup",
            command=_restore(place.backup, place.environment),
        )
    ways = (revert,) if restore is None else (revert, restore)
    times = f"times on the copy, rehearsed {utc_minute(document.at)}" if document else ""
    return replace(place, ways_back=ways, measured=times or _times_by_ledger(traced))


def _restore(backup: str, environment: str) -> str:
    """The command of a restore; none where a log or a document names what cannot be a backup: people paste commands."""
    return f"lockstep restore {backup} --into {environment} --replace" if backup_time(backup) else ""


def _mine(traced: Traced) -> list[Entry]:
    labels = {one.label for one in traced.place.applied}
    entries = [row.entry for row in traced.rows if row.entry is not None]
    return [one for one in entries if one.version is not None and one.name.removesuffix(".sql") in labels]


def _by_ledger(traced: Traced, document: Rehearsal | None) -> WayBack:
    """The revert of what this run applied and nobody took back since, by what the ledger holds now."""
    environment = traced.place.environment
    if traced.place.begun:
        first = traced.place.begun[0].split()[0]
        return WayBack(how="revert", ms=None, loses=f"not before {first} is finished or repaired", command="")
    mine = _mine(traced)
    if not mine:
        return WayBack(how="revert", ms=None, loses="nothing of it is in the ledger that could be reverted", command="")
    oldest = min(one.version or 0 for one in mine)
    versions = {one.version for one in mine}
    others = [row.entry.version for row in traced.rows if row.entry and row.entry.version is not None]
    newer = [one for one in others if one > oldest and one not in versions]
    if newer:  # somebody applied more since: one by one, newest first, each tried on a copy
        order = sorted((one for one in versions if one is not None), reverse=True)
        command = " && ".join(f"lockstep revert {environment} --only {one}" for one in order)
    else:
        below = [one for one in others if one < oldest]
        command = f"lockstep revert {environment} --to {max(below) if below else 'none'}"
    proofs = [one.revert_proof for one in mine]
    known = [one for one in proofs if one is not None]
    times = [one.ms for one in known if one.ms is not None]
    lost = [one.losses or one.text for one in known if one.losses or one.standing.value not in ("proven", "loses data")]
    unproven = "not known: it was not rehearsed" if len(known) < len(mine) else ""
    return WayBack(
        how="revert",
        ms=sum(times) if len(times) == len(mine) else None,
        loses="; ".join(lost) or unproven or "nothing by its rehearsal; rows written since are counted before it runs",
        command=command,
    )


def _times_by_ledger(traced: Traced) -> str:
    known = [
        one.revert_proof for one in _mine(traced) if one.revert_proof is not None and one.state is EntryState.APPLIED
    ]
    return f"times on the copy, rehearsed {utc_minute(known[0].at)}" if known else ""


def _document(settings: Settings, traced: Traced, unseen: list[str]) -> Rehearsal | None:
    """Read the rehearsal's document, for some seconds at most."""
    found: list[Rehearsal | None] = []
    trouble: list[str] = []

    def read() -> None:
        from lockstep.service.store import open_store  # late: boto3

        try:
            with open_store(settings) as store:
                found.append(store.backups.rehearsal_at(str(traced.rehearsal_key)))
        except LockstepError as error:
            trouble.append(error.message.splitlines()[0])

    thread = Thread(target=read, daemon=True)  # a bucket that never answers must not keep the process
    thread.start()
    thread.join(PATIENCE)
    if found and found[0] is not None:
        return found[0]
    why = trouble[0] if trouble else "it is not there any more" if found else f"no answer within {PATIENCE:.0f} s"
    unseen.append(f"{traced.place.environment}: the rehearsal's report in the bucket: {why}")
    return None
