"""Where the page goes: a file, or an object in a bucket. Whole or not at all, and for nobody else to read.

A file is written beside its place and then renamed. An object is one request, under the bucket's own rights: none is
given to anybody.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lockstep.config import Settings
from lockstep.errors import UsageError
from lockstep.storage.bucket import Bucket, BucketSettings

TYPE = "text/html; charset=utf-8"
CACHE = "private, no-cache"  # whoever asks again gets the newest


def is_object(place: str) -> bool:
    """Whether a place is an object in a bucket."""
    return place.startswith("s3://")


def publish(settings: Settings, place: str, page: bytes, *, base: Path) -> str:
    """Write the page; return where it is. `base`: what a relative path is below.

    Raises UsageError (no such folder, no right to write there, an address that is none), BucketError, ConfigError.
    """
    return _to_bucket(settings, place, page) if is_object(place) else _to_file(base / Path(place).expanduser(), page)


def check_place(settings: Settings, place: str, *, base: Path) -> None:
    """Find out before anything is looked at whether the page could be written there. Raises UsageError."""
    if is_object(place):
        name, key = _object(place)
        if settings.backup is not None:
            _refuse_backup(settings, place, name, key)
        return
    file = base / Path(place).expanduser()
    if file.is_dir():
        raise UsageError(f"{place} is a folder; name the file, for example {place.rstrip('/')}/index.html")
    folder = file.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"nothing may be written in {folder}")


def _refuse_backup(settings: Settings, place: str, name: str, key: str) -> None:
    """What Lockstep keeps lies in folders below the backups' place, and none of it is a page."""
    from lockstep.service.store import bucket_settings

    own = bucket_settings(settings)
    inside = key.removeprefix(own.prefix) if name == own.name and key.startswith(own.prefix) else ""
    if "/" in inside and not key.endswith(".html"):
        raise UsageError(f"{place} lies among the backups", hint="a page among them ends in .html")


def _to_file(file: Path, page: bytes) -> str:
    target = file.resolve()  # a link stays a link
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as written:
                written.write(page)
                written.flush()
                os.fchmod(written.fileno(), mode)
                os.fsync(written.fileno())
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise UsageError(f"{file} could not be written: {error.strerror or error}") from None
    return str(file)


def _to_bucket(settings: Settings, place: str, page: bytes) -> str:
    name, key = _object(place)
    with Bucket(_where(settings, name)) as bucket:
        bucket.put(key, page, sha256=hashlib.sha256(page).digest(), content_type=TYPE, cache_control=CACHE)
    return place


def _where(settings: Settings, name: str) -> BucketSettings:
    """The store of the backups where there is one, whichever bucket of it; else what the AWS chain says."""
    if settings.backup is None:
        return BucketSettings(url=f"s3://{name}")
    from lockstep.service.store import bucket_settings

    return replace(bucket_settings(settings), url=f"s3://{name}", lock_ms=None)


def _object(place: str) -> tuple[str, str]:
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/([^?#\s]*[^?#\s/])", place)
    if match is None:
        raise UsageError(f"{place} names no object", hint="write s3://BUCKET/KEY, such as s3://company-pages/shop.html")
    return match[1], match[2]
