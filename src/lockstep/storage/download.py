"""A stream out of one object of the bucket: all of its bytes in order, or an error.

A connection that breaks goes on where it broke, and only with the very same object (If-Match). What the bytes should
be is not known here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from lockstep.errors import BackupDamaged, BucketError
from lockstep.storage.bucket import Body, Bucket

CHUNK = 1024 * 1024  # bytes
RESUMES = 4  # in a row without a byte; each of these requests has its own retries
FIRST_PAUSE = 0.5  # seconds; doubled each time


class Download:
    """One object, read once from its beginning. A context manager; leaving it closes the request.

    `size` is what the server says before the first byte. Raises BucketError when the bucket does not do its part, and
    BackupDamaged when the object is not there, or became another one while it was read.
    """

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._body = self._opened(0, None)
        self._etag = self._body.etag
        self.size = self._body.size

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._body.close()

    def chunks(self) -> Iterator[bytes]:
        """Give the bytes, at most 1 MiB at a time."""
        at = failures = 0
        while at < self.size:
            try:
                chunk = self._body.read(CHUNK)
                if not chunk:
                    raise self._error("the object ended too early")
            except BucketError as error:
                failures = self._again(error, failures, at)
            else:
                failures = 0
                at += len(chunk)
                yield chunk

    # -- inside -------------------------------------------------------------------------------------------------

    def _again(self, error: BucketError, failures: int, at: int) -> int:
        """Open the object again from `at` on, and return how often that was tried since the last byte."""
        while True:
            if not error.retryable or failures >= RESUMES:
                raise error
            self._body.close()
            time.sleep(FIRST_PAUSE * 2**failures * random.uniform(0.5, 1.0))
            failures += 1
            try:
                self._body = self._opened(at, self._etag)
            except BucketError as again:
                error = again
            else:
                return failures

    def _opened(self, start: int, etag: str | None) -> Body:
        body = self._bucket.body(self._key, start=start, etag=etag)
        if body is None:
            problem = "is not in the bucket" if etag is None else "was removed or replaced while it was read"
            raise BackupDamaged(problem, what=self._key)
        if etag is not None and body.size != self.size:
            body.close()
            raise self._error("the store does not answer range requests", retryable=False)
        return body

    def _error(self, cause: str, *, retryable: bool = True) -> BucketError:
        return BucketError(f"{self._key}: {cause}", bucket=f"s3://{self._bucket.name}", retryable=retryable)
