"""A stream into one object of the bucket, of any length, in constant memory, that exists whole or not at all.

It must not decide when the stream is whole: only its caller knows that the producer ended well, and says so with
`complete`. Everything else that ends the stream throws the upload away (docs/adr/0006-own-multipart-stream.md).
"""

from __future__ import annotations

import hashlib
import random
import secrets
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from lockstep.errors import BucketError
from lockstep.storage.bucket import Bucket, StoredPart

MIB = 1024 * 1024
IN_FLIGHT = 2  # parts on their way while the next one fills
RESUMES = 4  # of a part that could not be stored; each of these requests has its own retries
FIRST_PAUSE = 0.5  # seconds before the first of them; doubled each time
MOST_PARTS = 10_000  # of one upload, as for the two below: Amazon S3 User Guide, "multipart upload limits"
LARGEST_PART = 5 * 1024 * MIB
LARGEST_OBJECT = 5 * 1024 * 1024 * MIB
SPILL_OVER = 16 * MIB  # a part larger than this waits in a temporary file instead of in memory

_FIRST_PART = 8 * MIB
_PARTS_BEFORE_GROWTH = 4150  # 32 GiB
_PARTS_PER_DOUBLING = 650


def part_size(number: int) -> int:
    """Bytes of part `number` (from 1): 8 MiB for the first 32 GiB, then doubling every 650 parts.

    The 10,000 parts that S3 allows hold 5.1 TiB then, and none is larger than 4 GiB.
    """
    if number <= _PARTS_BEFORE_GROWTH:
        return _FIRST_PART
    return _FIRST_PART << (1 + (number - _PARTS_BEFORE_GROWTH - 1) // _PARTS_PER_DOUBLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What a completed stream became."""

    key: str
    size: int  # bytes
    sha256: str  # of all bytes, lower-case hex


class MultipartStream:
    """A write-only stream into `key`. A context manager: leaving it without `complete` aborts the upload.

    At most three parts exist at a time: one that fills and two on their way; those above `spill_over` bytes wait in
    unnamed temporary files (TMPDIR says where), so memory stays the same at any length. Not for several threads.

    Raises BucketError from any method when a part could not be stored, and OSError when there is no space for a
    temporary file.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        *,
        sizes: Callable[[int], int] = part_size,
        spill_over: int = SPILL_OVER,
    ) -> None:
        self.size = 0  # bytes taken so far
        self._bucket = bucket
        self._key = key
        self._mark = secrets.token_hex(16)
        self._sizes = sizes
        self._spill_over = spill_over
        self._whole = hashlib.sha256()
        self._parts: list[StoredPart] = []
        self._sent: dict[Future[StoredPart], _Part] = {}
        self._filling: _Part | None = None
        self._spare: list[bytearray] = []  # memory of parts that are stored
        self._upload: str | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._leaving = threading.Event()

    def __enter__(self) -> MultipartStream:
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="lockstep-upload")
        try:
            self._upload = self._bucket.begin_upload(self._key, mark=self._mark)
        except BaseException:
            self._pool.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._pool is not None
        self._leaving.set()
        try:
            # A part that arrives after the abort would stay in the bucket, invisible and paid for: let them end first.
            self._pool.shutdown(wait=True, cancel_futures=True)
        finally:
            for part in (*self._sent.values(), self._filling):
                if part is not None:
                    self._spare += part.close()
            self._abort(error)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Waits while two parts are on their way and a third one is full."""
        rest = memoryview(chunk)
        while rest:
            part = self._filling or self._new_part()
            taken = part.take(rest)
            rest = rest[taken:]
            if part.is_full:
                self._send()
        self._whole.update(chunk)
        self.size += len(chunk)

    def complete(self) -> Uploaded:
        """Send the rest and make the object. Call it only when the producer is known to have ended well.

        Raises BucketError also when an object of this key exists already; that one is left as it is.
        """
        assert self._upload is not None
        if self._filling is not None or not (self._parts or self._sent):  # an upload without a part cannot be completed
            self._filling = self._filling or self._new_part()
            self._send()
        while self._sent:
            self._settle()
        if not self._bucket.finish_upload(self._key, self._upload, self._parts, mark=self._mark):
            raise BucketError(f"{self._key} exists already and was not overwritten", bucket=f"s3://{self._bucket.name}")
        self._upload = None
        return Uploaded(key=self._key, size=self.size, sha256=self._whole.hexdigest())

    # -- inside -------------------------------------------------------------------------------------------------

    def _new_part(self) -> _Part:
        number = len(self._parts) + len(self._sent) + 1
        capacity = self._sizes(number)
        if capacity > self._spill_over:
            self._filling = _Part(number, capacity, tempfile.TemporaryFile())  # noqa: SIM115 - closed by close()
        else:
            self._filling = _Part(number, capacity, self._memory(capacity))
        return self._filling

    def _memory(self, size: int) -> bytearray:
        """That of a stored part where it fits: freed and asked for anew, the whole would grow in pieces."""
        while self._spare:
            memory = self._spare.pop()
            if len(memory) == size:
                return memory
        return bytearray(size)

    def _send(self) -> None:
        assert self._pool is not None
        while len(self._sent) >= IN_FLIGHT:
            self._settle()
        part, self._filling = self._filling, None
        assert part is not None
        self._sent[self._pool.submit(self._put, part)] = part

    def _put(self, part: _Part) -> StoredPart:
        """Store one part, with more patience than one request has: hours of work are not lost to a store's restart."""
        assert self._upload is not None
        for tries in range(RESUMES + 1):
            try:
                return self._bucket.put_part(
                    self._key, self._upload, part.number, part.body(), size=part.size, sha256=part.digest()
                )
            except BucketError as error:
                pause = FIRST_PAUSE * 2**tries * random.uniform(0.5, 1.0)
                if not error.retryable or tries == RESUMES or self._leaving.wait(pause):
                    raise
        raise AssertionError  # the last try returns or raises

    def _settle(self) -> None:
        done, _ = wait(self._sent, return_when=FIRST_COMPLETED)
        for future in done:
            self._spare += self._sent.pop(future).close()
            self._parts.append(future.result())

    def _abort(self, error: BaseException | None) -> None:
        if self._upload is None:
            return
        try:
            self._bucket.abort_upload(self._key, self._upload)
        except BucketError as failed:
            # The first error is the one that matters. What stays takes space but is never offered as a backup.
            if error is None:
                raise
            error.add_note(f"The unfinished upload of {self._key} could not be removed: {failed.cause}.")


class _Part:
    """One part that fills up, in memory or in a temporary file."""

    def __init__(self, number: int, capacity: int, place: bytearray | IO[bytes]) -> None:
        self.number = number
        self.size = 0  # bytes held
        self._capacity = capacity
        self._digest = hashlib.sha256()
        self._place = place

    @property
    def is_full(self) -> bool:
        return self.size == self._capacity

    def take(self, data: memoryview) -> int:
        """Take what fits, and return how many bytes that was."""
        taken = data[: self._capacity - self.size]
        if isinstance(self._place, bytearray):
            with memoryview(self._place) as memory:  # a slice of the bytearray itself would copy twice
                memory[self.size : self.size + len(taken)] = taken
        else:
            self._place.write(taken)
        self._digest.update(taken)
        self.size += len(taken)
        return len(taken)

    def body(self) -> bytearray | IO[bytes]:
        if isinstance(self._place, bytearray):
            del self._place[self.size :]  # of the last part
        else:
            self._place.seek(0)
        return self._place

    def digest(self) -> bytes:
        return self._digest.digest()

    def close(self) -> list[bytearray]:
        """Let go of the file, or return the memory."""
        if isinstance(self._place, bytearray):
            return [self._place]
        self._place.close()
        return []
