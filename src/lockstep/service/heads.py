"""What the bucket knows of an audit log: where it ended at each backup, and the rows that were pruned from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from lockstep.config import Settings
from lockstep.core.audit import Anchor, Chain, HeadCheck, KnownHead, Restore, false_restores
from lockstep.errors import BackupDamaged, BucketError, IdentityMissing, LockstepError
from lockstep.service.store import OpenStore, open_store
from lockstep.storage.auditexport import AuditExport, read_back, read_rows
from lockstep.storage.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """The heads in the manifests of one environment's backups."""

    environment: str
    heads: tuple[KnownHead, ...]
    told: HeadCheck  # what was passed over or could not be read; its heads are not judged yet

    @classmethod
    def read(cls, settings: Settings, environment: str, since: datetime | None) -> Outside:
        """Read every manifest of the environment. A bucket that cannot be read is told. Raises ConfigError."""
        try:
            with open_store(settings) as store:
                listing = store.backups.listing(environment)
        except BucketError as error:
            return cls(environment=environment, heads=(), told=HeadCheck(trouble=error))
        known = [head for manifest in listing.backups if (head := _head(manifest)) is not None]
        wanted = [head for head in known if since is None or head.at is None or head.at >= since]
        return cls(
            environment=environment,
            heads=tuple(wanted),
            told=HeadCheck(passed_over=len(known) - len(wanted), unreadable=listing.unreadable),
        )

    def behind(
        self, settings: Settings, told: HeadCheck, restores: Sequence[Restore], chain: Chain, hashes: dict[int, str]
    ) -> HeadCheck:
        """Look at what only the bucket can prove: the backups that were restored, the rows that were pruned.

        Adds to `hashes` those of pruned rows, where a head is about one and the export can be read here.
        """
        if told.trouble is not None or not (restores or chain.anchor):
            return told
        try:
            with open_store(settings) as store:
                ends = {}
                for one in restores:
                    if (head := _end_of(store, one)) is not None:
                        ends[one.of, one.backup] = head
                told = replace(told, false_restores=false_restores(restores, ends))
                if chain.anchor is not None and chain.first > 1:
                    found = _exported(store, chain.anchor, {head.number for head in self.heads})
                    if isinstance(found, str):
                        return replace(told, export=found)
                    hashes |= {number: own for number, own in found.items() if number < chain.first}
        except BucketError as error:
            return replace(told, trouble=error)
        return told


def _head(manifest: Manifest) -> KnownHead | None:
    ledger = manifest.ledger
    if ledger is None or ledger.audit_head is None or ledger.audit_length is None:
        return None
    return KnownHead(
        number=ledger.audit_length, hash=ledger.audit_head, at=manifest.taken_at, source=f"backup {manifest.id}"
    )


def _end_of(store: OpenStore, restore: Restore) -> KnownHead | None:
    """Where the log of a restored backup ended; None when the backup is not there any more, or cannot be read."""
    try:
        manifest = store.backups.read(restore.of, restore.backup)
    except BucketError:
        raise
    except LockstepError:
        return None  # a name that no backup has
    return _head(manifest) if manifest is not None else None


class _Row(msgspec.Struct):
    id: int
    hash: str


def _exported(store: OpenStore, anchor: Anchor, numbers: set[int]) -> dict[int, str] | str:
    """Return the hashes of exported rows, or what is wrong with the export. Raises BucketError."""
    if anchor.key is None or anchor.sha256 is None or anchor.size is None:
        return "the prune does not say where its rows were exported to"
    export = AuditExport(
        key=anchor.key,
        size=anchor.size,
        sha256=anchor.sha256,
        plain_sha256=anchor.plain_sha256,
        encrypted_to=anchor.encrypted_to,
    )
    found: dict[int, str] = {}
    last = ""

    def take(line: bytes) -> None:
        nonlocal last
        row = _ROWS.decode(line)
        last = row.hash
        if row.id in numbers:
            found[row.id] = row.hash

    try:
        try:
            read_rows(store.bucket, export, take, identity=store.identity)
        except IdentityMissing:
            read_back(store.bucket, export)
            return {}
    except BackupDamaged as error:
        return error.message
    except (msgspec.DecodeError, ValueError, RecursionError):
        return f"{anchor.key}: it holds no rows of an audit log"
    return found if last == anchor.hash else f"{anchor.key}: its last row is not the one that the prune names"


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_ROWS = msgspec.json.Decoder(_Row)
