"""What somebody else put into the bucket: named as unreadable or refused, in bounded memory; other backups are still found."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lockstep.errors import BackupDamaged, BucketError
from lockstep.storage import auditexport
from lockstep.storage import bucket as bucket_module
from lockstep.storage.auditexport import AuditExport, read_rows
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket
from lockstep.storage.incidents import IncidentStore
from lockstep.storage.manifest import DataArchive, Manifest, encode
from tests.integration.backup.store import Store
from tests.manifests import manifest
from tests.project import Project

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

HOSTILE: dict[str, Callable[[Manifest, Manifest], bytes]] = {
    "deep": lambda _own, _good: b'{"format": 1, "zz": ' + b"[" * 500_000,
    "larger than any": lambda own, _good: encode(own).replace(b"\n}", b"," + b" " * 200_000 + b'"zz": 1\n}'),
    "another backup's rows": lambda own, good: encode(replace(own, data=(DataArchive(key=good.key, size=4, sha256="ab" * 32),))),
    "another backup's contents": lambda own, good: encode(
        replace(own, contents_key=f"{good.key.rpartition('/')[0]}/contents.json", contents_sha256="ab" * 32)
    ),
    "another environment's dump": lambda own, _good: encode(replace(own, key=own.key.replace("/prod/", "/dev/"))),
    "another prefix": lambda own, _good: encode(replace(own, key=f"elsewhere/prod/{own.key.split('/')[-2]}/database.dump")),
    "a way up": lambda own, _good: encode(replace(own, key=own.key.replace("database.dump", "../x/database.dump"))),
    "a web address": lambda own, _good: encode(replace(own, key="http://evil.example/a/database.dump")),
}  # fmt: skip


@pytest.fixture
def configured(project: Project, store: Store) -> Project:
    project.urls = {"prod": project.urls["dev"]}
    project.toml = f'[backup]\nbucket = "{store.settings.url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.configure(prod="protected = true")
    return project


def test_a_hostile_manifest_is_unreadable_and_hides_no_other(
    configured: Project, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "LARGEST_DOCUMENT", 100_000)
    good = manifest(taken_at=NOW - timedelta(days=1), prefix=store.prefix)
    store.client.put_object(Bucket=store.name, Key=good.key, Body=b"dump")
    put = {f"{good.key.rpartition('/')[0]}/manifest.json": encode(good)}
    for number, make in enumerate(HOSTILE.values()):
        own = manifest(taken_at=NOW + timedelta(minutes=number), run_id=f"evil{number}", prefix=store.prefix)
        put[f"{own.key.rpartition('/')[0]}/manifest.json"] = make(own, good)
    for key, body in put.items():
        store.client.put_object(Bucket=store.name, Key=key, Body=body)
    folder = good.key.rpartition("/")[0]
    store.client.put_object(Bucket=store.name, Key=f"{folder}/verified-x.json", Body=b'{"zz":' + b"[" * 500_000)
    store.client.put_object(
        Bucket=store.name, Key=f"{store.prefix}prod/incidents.json", Body=b'{"zz":' + b"[" * 500_000
    )

    with Bucket(store.settings) as bucket:
        listing = Backups(bucket).listing("prod")
        assert [one.id for one in listing.backups] == [good.id]
        assert len(listing.unreadable) == len(HOSTILE)
        assert IncidentStore(bucket, "prod").read() == ()
        for key in (
            f"{folder}/manifest.json",
            "../x",
            "/etc/passwd",
            f"{store.prefix}prod/../x/rehearsal-a.json",
            good.key,
        ):
            assert Backups(bucket).rehearsal_at(key) is None

    done = configured.run("backups", "list")
    assert done.code == 0 and good.id in done.out and "unexpected" not in done.err, done
    for number in range(len(HOSTILE)):
        wanted = next(key.split("/")[-2] for key in put if key.split("/")[-2].endswith(f"evil{number}"))
        done = configured.run("restore", wanted, "--into", configured.urls["prod"])
        assert done.code == 7 and "the manifest cannot be read" in done.err, done
    done = configured.run("restore", "latest", "--into", configured.urls["prod"])
    assert done.code == 7, "an older one never stands in for it"


def test_an_export_that_unpacks_a_thousandfold_is_refused_before_it_takes_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditexport, "LARGEST_ROW", 4 * 1024 * 1024)
    rows = b'{"format": "lockstep.audit-log/1"}\n' + b"".join(b'{"id": %d}\n' % number for number in range(200_000))
    taken: list[bytes] = []
    with Bucket(store.settings) as bucket:
        read_rows(bucket, _export(store, gzip.compress(rows)), taken.append)
        assert b'{"format": "lockstep.audit-log/1"}\n' + b"\n".join(taken) + b"\n" == rows
        with pytest.raises(ValueError, match="larger than any"):
            read_rows(bucket, _export(store, gzip.compress(b"x" * 300_000_000, 1)), taken.append)
        with pytest.raises((BackupDamaged, BucketError)):
            read_rows(bucket, replace(_export(store, b"x"), key="../../etc/passwd"), taken.append)


def _export(store: Store, body: bytes) -> AuditExport:
    key = f"{store.prefix}prod/audit-log/x.jsonl.gz"
    store.client.put_object(Bucket=store.name, Key=key, Body=body)
    return AuditExport(
        key=key, size=len(body), sha256=hashlib.sha256(body).hexdigest(), plain_sha256=None, encrypted_to=()
    )
