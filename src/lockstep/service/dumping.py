"""All archives of one backup, each from its own pg_dump into its own upload: all become objects, or none does.

It knows the order in which programs and uploads begin and end, and nothing of what they are for.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from lockstep.errors import BucketError
from lockstep.postgres.dump import PgDump
from lockstep.storage.bucket import Bucket
from lockstep.storage.encryption import encrypt
from lockstep.storage.multipart import MultipartStream, Uploaded

TICK = 0.5  # seconds between two looks when only others have something to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One archive to be made."""

    dump: PgDump
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One archive that is in the bucket."""

    uploaded: Uploaded
    plain_sha256: str | None  # of the archive before encryption; None: not encrypted


@dataclass(slots=True)
class _Stream:
    """One archive on its way."""

    dump: PgDump
    upload: MultipartStream
    recipients: Sequence[str]
    began: bool = False  # the program has all its locks: it writes
    plain: str | None = None
    error: BaseException | None = None
    thread: threading.Thread | None = field(default=None, repr=False)

    def pump(self, seen: Callable[[], None]) -> None:
        """Move the archive, whole, from program to upload. Raises what either raises; the upload is not completed."""
        if self.recipients:
            whole = hashlib.sha256()

            def plain() -> Iterator[bytes]:
                for chunk in self._chunks(seen):
                    whole.update(chunk)
                    yield chunk

            encrypt(plain(), self.upload.write, self.recipients)
            self.plain = whole.hexdigest()
        else:
            for chunk in self._chunks(seen):
                self.upload.write(chunk)
        self.dump.finish()

    def _chunks(self, seen: Callable[[], None]) -> Iterator[bytes]:
        for chunk in self.dump.chunks():
            self.began = True
            yield chunk
            seen()


def make_archives(
    bucket: Bucket,
    jobs: Sequence[Job],
    *,
    recipients: Sequence[str] = (),
    began: Callable[[], None],
    progress: Callable[[int], None],
) -> tuple[Made, ...]:
    """Make all archives at once, the first job's in this thread, and return when every object is there.

    The others begin when the first one writes, which is when it has its locks. `began` is called once, when all of
    them have theirs; `progress` with the bytes so far, after each chunk or every half second. Whatever ends one ends
    all, and what any of these raises comes out as it is: then no object, no upload and no program is left.
    """
    with ExitStack() as stack:
        streams = [_Stream(job.dump, MultipartStream(bucket, job.key), recipients) for job in jobs]
        first, others = streams[0], streams[1:]
        for stream in streams:
            stack.enter_context(stream.upload)
        stack.enter_context(first.dump)
        told = False

        def seen() -> None:
            nonlocal told
            if others and others[0].thread is None:
                _begin(stack, streams)
            if not told and all(stream.began for stream in streams):
                told = True
                began()
            progress(sum(stream.upload.size for stream in streams))

        try:
            first.pump(seen)
            while running := [stream for stream in others if stream.thread and stream.thread.is_alive()]:
                assert running[0].thread is not None
                running[0].thread.join(TICK)
                seen()
        except Exception:
            _raise_theirs(others)  # that is the cause, when it ended the first one
            raise
        _raise_theirs(others)
        if not told:
            began()
        return _complete(bucket, streams)


def _begin(stack: ExitStack, streams: Sequence[_Stream]) -> None:
    """Start the other programs, from this thread: the kernel ends them when the thread that started them ends."""
    for stream in streams[1:]:
        stack.enter_context(stream.dump)
    for stream in streams[1:]:

        def work(stream: _Stream = stream) -> None:
            try:
                stream.pump(lambda: None)
            except BaseException as error:
                stream.error = error
                for other in streams:
                    other.dump.stop()

        stream.thread = threading.Thread(target=work, name="lockstep-archive", daemon=True)
        stream.thread.start()
        stack.callback(_await, stream)  # before the pipe that it reads is closed


def _await(stream: _Stream) -> None:
    stream.dump.end()
    assert stream.thread is not None
    stream.thread.join()


def _raise_theirs(others: Sequence[_Stream]) -> None:
    for stream in others:
        if stream.error is not None:
            raise stream.error


def _complete(bucket: Bucket, streams: Sequence[_Stream]) -> tuple[Made, ...]:
    made: list[Made] = []
    try:
        for stream in streams:
            made.append(Made(uploaded=stream.upload.complete(), plain_sha256=stream.plain))
    except BaseException as error:
        for one in made:
            try:
                bucket.delete(one.uploaded.key)
            except BucketError as another:
                error.add_note(f"{one.uploaded.key} could not be removed: {another}")
        raise
    return tuple(made)
