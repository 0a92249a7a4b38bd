"""The stream: whole or not at all, checked part by part, and no limit of S3's met below 5 TiB."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.errors import BucketError
from lockstep.storage.bucket import Bucket, StoredPart
from lockstep.storage.multipart import (
    LARGEST_OBJECT,
    LARGEST_PART,
    MIB,
    MOST_PARTS,
    SPILL_OVER,
    MultipartStream,
    part_size,
)
from tests.integration.backup.store import Store


@pytest.fixture
def key(store: Store) -> str:
    return f"{store.prefix}some/key"


@pytest.fixture
def bucket(store: Store) -> Iterator[Bucket]:
    with Bucket(store.settings) as opened:
        yield opened


def small(number: int) -> int:
    """Sizes that grow soon: 5 MiB (the least that S3 takes), then 6."""
    return 5 * MIB if number < 3 else 6 * MIB


# -- growth -----------------------------------------------------------------------------------------------------------


def test_ten_thousand_parts_hold_the_largest_object() -> None:
    sizes = [part_size(number) for number in range(1, MOST_PARTS + 1)]
    assert sum(sizes) >= LARGEST_OBJECT
    assert max(sizes) <= LARGEST_PART
    assert sizes == sorted(sizes)
    assert sizes[0] == 8 * MIB


def test_parts_stay_small_for_ordinary_databases() -> None:
    total = number = 0
    while part_size(number + 1) == 8 * MIB:
        number += 1
        total += part_size(number)
    assert total >= 32 * 1024 * MIB
    assert SPILL_OVER <= 16 * MIB  # three parts at most are in memory


# -- the object -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "spill_over"),
    [
        *((size, SPILL_OVER) for size in (0, 1, 5 * MIB, 10 * MIB, 16 * MIB + 1)),
        *((size, 5 * MIB) for size in (10 * MIB + 1, 22 * MIB)),  # from the third part on in files
    ],
)
def test_what_comes_out_is_what_went_in(bucket: Bucket, key: str, store: Store, size: int, spill_over: int) -> None:
    data = os.urandom(size)
    with MultipartStream(bucket, key, sizes=small, spill_over=spill_over) as stream:
        for at in range(0, size, 700_001):
            stream.write(data[at : at + 700_001])
        assert store.stored() == []  # nothing to see before it is complete
        uploaded = stream.complete()
    assert (uploaded.key, uploaded.size) == (key, size)
    assert uploaded.sha256 == hashlib.sha256(data).hexdigest()
    assert store.read(key) == data
    assert store.unfinished() == []


def test_a_chunk_larger_than_several_parts_is_split(bucket: Bucket, key: str, store: Store) -> None:
    data = os.urandom(23 * MIB)
    with MultipartStream(bucket, key, sizes=small) as stream:
        stream.write(data)
        stream.complete()
    assert store.read(key) == data


def test_a_stream_left_without_complete_is_no_object(bucket: Bucket, key: str, store: Store) -> None:
    with MultipartStream(bucket, key, sizes=small) as stream:
        stream.write(os.urandom(17 * MIB))
    store.assert_empty()


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_ends_a_stream_throws_it_away(
    bucket: Bucket, key: str, store: Store, kind: type[BaseException]
) -> None:
    with pytest.raises(kind), MultipartStream(bucket, key, sizes=small) as stream:
        stream.write(os.urandom(17 * MIB))
        raise kind
    store.assert_empty()


def test_an_object_that_exists_is_not_overwritten(bucket: Bucket, key: str, store: Store) -> None:
    store.client.put_object(Bucket=store.name, Key=key, Body=b"first")
    with pytest.raises(BucketError, match="exists already"), MultipartStream(bucket, key, sizes=small) as stream:
        stream.write(b"second")
        stream.complete()
    assert store.read(key) == b"first"
    assert store.unfinished() == []


def test_the_server_refuses_a_part_that_was_damaged_on_its_way(bucket: Bucket, key: str, store: Store) -> None:
    upload = bucket.begin_upload(key)
    with pytest.raises(BucketError):
        bucket.put_part(key, upload, 1, bytearray(b"damaged"), size=7, sha256=hashlib.sha256(b"correct").digest())
    bucket.abort_upload(key, upload)
    bucket.abort_upload(key, upload)  # twice is fine
    store.assert_empty()


def test_a_part_is_signed_with_the_digest_that_it_comes_with(bucket: Bucket, key: str) -> None:
    # botocore would hash it again. A digest that is wrong shows whose it is, and is refused all the same.
    signed: list[str] = []
    events = bucket._client.meta.events
    events.register(
        "before-send.s3.UploadPart",
        lambda request, **_: signed.append(request.headers["X-Amz-Content-SHA256"].decode()),
    )
    upload = bucket.begin_upload(key)
    right, wrong = (hashlib.sha256(text) for text in (b"body", b"other"))
    bucket.put_part(key, upload, 1, bytearray(b"body"), size=4, sha256=right.digest())
    with pytest.raises(BucketError):
        bucket.put_part(key, upload, 1, bytearray(b"body"), size=4, sha256=wrong.digest())
    bucket.abort_upload(key, upload)
    assert signed == [right.hexdigest(), wrong.hexdigest()]


def test_the_memory_of_a_stored_part_is_used_again(bucket: Bucket, key: str, store: Store) -> None:
    data = os.urandom(33 * MIB)
    bodies: list[int] = []
    original = bucket.put_part

    def note(key: str, upload: str, number: int, body: bytearray, *, size: int, sha256: bytes) -> StoredPart:
        bodies.append(id(body))
        return original(key, upload, number, body, size=size, sha256=sha256)

    bucket.put_part = note  # type: ignore[method-assign, assignment]
    with MultipartStream(bucket, key, sizes=lambda number: 5 * MIB) as stream:
        for at in range(0, len(data), MIB):
            stream.write(data[at : at + MIB])
        stream.complete()
    assert store.read(key) == data
    assert len(bodies) == 7
    assert len(set(bodies)) == 3


def test_a_part_that_cannot_be_stored_ends_the_stream(bucket: Bucket, key: str, store: Store) -> None:
    with pytest.raises(BucketError), MultipartStream(bucket, key, sizes=lambda number: MIB) as stream:
        stream.write(os.urandom(2 * MIB))
        assert stream._upload
        bucket.abort_upload(key, stream._upload)  # somebody's lifecycle rule
        stream.write(os.urandom(3 * MIB))
        stream.complete()
    store.assert_empty()


def test_large_parts_wait_on_disk_and_leave_no_file(
    bucket: Bucket, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with MultipartStream(bucket, key, sizes=small, spill_over=MIB) as stream:
        stream.write(os.urandom(6 * MIB))
        assert list(tmp_path.iterdir()) == []  # unnamed from the start: gone with the process, however it ends
        opened = [str(entry.resolve()) for entry in Path("/proc/self/fd").iterdir()]
        assert any(path.startswith(str(tmp_path)) for path in opened)
        stream.complete()
