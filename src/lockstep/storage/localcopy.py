"""Archives of a backup in files without a name: for a reader that must go back and forth, or several at once.

They hold production data in clear, so no path leads to them: they vanish with this process, however it ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

from lockstep.storage.archive import Archive, read_archive
from lockstep.storage.bucket import Bucket
from lockstep.storage.encryption import Identity

SPARE = 256 * 1024 * 1024  # bytes of the disk that stay free


def has_room(archives: Sequence[Archive]) -> bool:
    """Whether the folder for temporary files (TMPDIR) can hold the archives."""
    return shutil.disk_usage(tempfile.gettempdir()).free >= sum(archive.size for archive in archives) + SPARE


@contextmanager
def local_copies(
    bucket: Bucket,
    archives: Sequence[Archive],
    *,
    identity: Identity | None = None,
    meter: Callable[[int], object] = lambda _count: None,
) -> Iterator[tuple[IO[bytes], ...]]:
    """Fetch archives, decrypted and compared with the manifest's word, and hold them open until the block ends.

    `meter` is told the bytes of each chunk. Raises what `read_archive` raises, and OSError when there is no space.
    """
    with ExitStack() as stack:
        files = []
        for archive in archives:
            file = stack.enter_context(tempfile.TemporaryFile())

            def write(chunk: bytes, file: IO[bytes] = file) -> None:
                file.write(chunk)
                meter(len(chunk))

            read_archive(bucket, archive, write, identity=identity)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            files.append(file)
        yield tuple(files)
