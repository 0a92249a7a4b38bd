"""An archive that comes back is the one that was stored, over broken connections too; anything else is damage."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pyrage import x25519

from demo.s3server import S3Server
from lockstep.errors import BackupDamaged, BucketError, IdentityMissing
from lockstep.storage import bucket as bucket_module
from lockstep.storage import download
from lockstep.storage.archive import Archive, read_archive
from lockstep.storage.bucket import Bucket
from lockstep.storage.encryption import Identity, encrypt
from tests.integration.backup.store import Store
from tests.integration.proxy import CountingProxy

PLAIN = random.Random(5).randbytes(5_000_000)


@pytest.fixture
def bucket(store: Store) -> Iterator[Bucket]:
    with Bucket(store.settings) as opened:
        yield opened


@pytest.fixture
def key() -> x25519.Identity:
    return x25519.Identity.generate()


@pytest.fixture
def put(store: Store, key: x25519.Identity) -> Callable[..., Archive]:
    """Store an archive as a backup would."""

    def put(plain: bytes = PLAIN, *, encrypted: bool = False) -> Archive:
        stored = bytearray() if encrypted else bytearray(plain)
        recipients = (str(key.to_public()),) if encrypted else ()
        if encrypted:
            encrypt([plain], stored.extend, recipients)
        name = f"{store.prefix}prod/20260101T000000Z-r/database.dump"
        store.client.put_object(Bucket=store.name, Key=name, Body=bytes(stored))
        return Archive(
            key=name,
            size=len(stored),
            sha256=hashlib.sha256(stored).hexdigest(),
            plain_sha256=hashlib.sha256(plain).hexdigest() if encrypted else None,
            encrypted_to=recipients,
        )

    return put


def read(bucket: Bucket, archive: Archive, identity: Identity | None = None) -> bytes:
    got = bytearray()
    read_archive(bucket, archive, got.extend, identity=identity)
    return bytes(got)


def nobody(chunk: bytes) -> None:
    raise AssertionError("a byte was given")


def test_what_comes_back_is_what_was_stored(
    bucket: Bucket, put: Callable[..., Archive], key: x25519.Identity, store: Store
) -> None:
    assert read(bucket, put()) == PLAIN
    archive = put(encrypted=True)
    assert PLAIN[:64] not in store.read(archive.key)
    assert read(bucket, archive, Identity([x25519.Identity.generate(), key])) == PLAIN


def test_without_a_key_that_fits_nothing_is_read(
    bucket: Bucket, put: Callable[..., Archive], key: x25519.Identity, store: Store
) -> None:
    archive = put(encrypted=True)
    store.delete(archive.key)  # nobody would notice
    with pytest.raises(IdentityMissing, match=f"encrypted to {key.to_public()}, and no age identity was given"):
        read(bucket, archive)
    other = x25519.Identity.generate()
    with pytest.raises(IdentityMissing, match=f"the keys at hand are those of {other.to_public()}") as caught:
        read(bucket, archive, Identity([other]))
    assert str(other) not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_flipped_bit_anywhere_is_damage(
    bucket: Bucket, put: Callable[..., Archive], key: x25519.Identity, store: Store, encrypted: bool
) -> None:
    plain = PLAIN[:200_000]
    archive = put(plain, encrypted=encrypted)
    stored = store.read(archive.key)
    chance = random.Random()
    for place in (0, 100, len(stored) - 1, chance.randrange(len(stored)), chance.randrange(len(stored))):
        flipped = bytearray(stored)
        flipped[place] ^= 1 << chance.randrange(8)
        store.client.put_object(Bucket=store.name, Key=archive.key, Body=bytes(flipped))
        with pytest.raises(BackupDamaged, match=archive.key):
            read(bucket, archive, Identity([key]))


def test_a_truncated_longer_or_missing_object_is_damage_before_a_byte_is_given(
    bucket: Bucket, put: Callable[..., Archive], store: Store
) -> None:
    archive = put()
    for body in (PLAIN[:-1], PLAIN + b"x", b""):
        store.client.put_object(Bucket=store.name, Key=archive.key, Body=body)
        with pytest.raises(BackupDamaged, match=f"has {len(body)} bytes instead of {len(PLAIN)}"):
            read_archive(bucket, archive, nobody)
    store.delete(archive.key)
    with pytest.raises(BackupDamaged, match="is not in the bucket"):
        read_archive(bucket, archive, nobody)


def test_an_age_file_of_other_plain_bytes_is_damage(
    bucket: Bucket, put: Callable[..., Archive], key: x25519.Identity
) -> None:
    # Whoever may write to the bucket can encrypt to a public key: only the manifest's digest tells.
    archive = replace(put(encrypted=True), plain_sha256="0" * 64)
    with pytest.raises(BackupDamaged, match="decrypted bytes"):
        read(bucket, archive, Identity([key]))


# -- connections that break -------------------------------------------------------------------------------------------


@pytest.fixture
def through(s3: S3Server, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[CountingProxy], Bucket]]:
    """The store behind a proxy."""
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(bucket_module, "ATTEMPTS", 1)
    opened: list[Bucket] = []

    def open_through(proxy: CountingProxy) -> Bucket:
        opened.append(Bucket(replace(store.settings, endpoint_url=f"http://127.0.0.1:{proxy.port}")))
        return opened[-1]

    yield open_through
    for one in opened:
        one.close()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("after", [1_000, 3_000_000])
def test_a_connection_that_breaks_goes_on_where_it_broke(
    s3: S3Server,
    through: Callable[[CountingProxy], Bucket],
    put: Callable[..., Archive],
    key: x25519.Identity,
    after: int,
    encrypted: bool,
) -> None:
    archive = put(encrypted=encrypted)
    with CountingProxy(s3.port, cut_after=("server", after)) as proxy:
        assert read(through(proxy), archive, Identity([key])) == PLAIN
        assert len(PLAIN) < proxy.bytes["server"] < len(PLAIN) + 2_000_000  # it did not begin anew


def test_a_connection_that_stays_broken_is_an_error_and_worth_another_try(
    s3: S3Server, through: Callable[[CountingProxy], Bucket], put: Callable[..., Archive]
) -> None:
    archive = put()
    with (
        CountingProxy(s3.port, cut_after=("server", 2_000_000), stays_down=True) as proxy,
        pytest.raises(BucketError) as caught,
    ):
        read(through(proxy), archive)
    assert caught.value.retryable


def test_an_object_that_was_replaced_meanwhile_is_not_pieced_together(
    s3: S3Server, through: Callable[[CountingProxy], Bucket], put: Callable[..., Archive], store: Store
) -> None:
    archive = put()

    def replaced(chunk: bytes) -> None:
        if not got:
            store.client.put_object(Bucket=store.name, Key=archive.key, Body=bytes(len(PLAIN)))
        got.extend(chunk)

    got = bytearray()
    with (
        CountingProxy(s3.port, cut_after=("server", 2_500_000)) as proxy,
        pytest.raises(BackupDamaged, match="removed or replaced"),
    ):
        read_archive(through(proxy), archive, replaced)


# -- what the writer raises -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("raised", [BrokenPipeError(32, "gone"), KeyboardInterrupt(), OSError(28, "no space")])
def test_what_the_writer_raises_comes_out_and_the_request_ends(
    bucket: Bucket,
    put: Callable[..., Archive],
    key: x25519.Identity,
    raised: BaseException,
    encrypted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(chunk: bytes) -> None:
        raise raised

    def close(body: bucket_module.Body) -> None:
        closed.append(body)
        original(body)

    closed: list[bucket_module.Body] = []
    original = bucket_module.Body.close
    monkeypatch.setattr(bucket_module.Body, "close", close)
    with pytest.raises(type(raised)) as caught:
        read_archive(bucket, put(encrypted=encrypted), write, identity=Identity([key]))
    assert caught.value is raised
    assert len(closed) == 1
