"""The incidents of one environment in the bucket: one small document, written only over the version that was read.

So of two processes that notice the same thing one tells it. It lies in the environment's folder beside the backups, is
named unlike one, and holds no secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from lockstep.errors import BucketError
from lockstep.storage.bucket import Bucket

T = TypeVar("T")

FILE = "incidents.json"
WITHOUT_ENVIRONMENT = "_project"  # no environment is called so
_TRIES = 8  # others write at the same moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One problem that was noticed."""

    id: str
    occasion: str
    source: str  # what noticed it: deploy, status, verify-backups
    headline: str
    run_id: str | None
    first_at: datetime
    last_at: datetime
    told_at: datetime | None  # when it was last told; None: it reached nobody yet
    repeats: int  # since then
    about: str = ""  # of what is looked at again and again: what it is about, and what it is over together with


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What is stored."""

    format: int = 1
    incidents: tuple[Incident, ...] = ()


class IncidentStore:
    """The incidents of one environment. Every method raises BucketError."""

    def __init__(self, bucket: Bucket, environment: str | None) -> None:
        self._bucket = bucket
        self._key = f"{bucket.settings.prefix}{environment or WITHOUT_ENVIRONMENT}/{FILE}"

    def read(self) -> tuple[Incident, ...]:
        """Return the incidents that are open. A document that cannot be read counts as none: it is no record."""
        return self._read()[0]

    def change(self, change: Callable[[tuple[Incident, ...]], tuple[tuple[Incident, ...], T]]) -> T:
        """Replace them by what `change` makes of them, and return what it says. It may be called several times."""
        for _ in range(_TRIES):
            there, etag = self._read()
            wanted, answer = change(there)
            if wanted == there:
                return answer
            body = msgspec.json.encode(Document(incidents=wanted))
            digest = hashlib.sha256(body).digest()
            if self._bucket.replace(self._key, body, sha256=digest, content_type="application/json", etag=etag):
                return answer
        raise BucketError("others keep on writing it", bucket=self._key, retryable=True)

    def _read(self) -> tuple[tuple[Incident, ...], str | None]:
        found = self._bucket.read_with_etag(self._key)
        if found is None:
            return (), None
        body, etag = found
        try:
            return _DOCUMENTS.decode(body).incidents, etag
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return (), etag


#: Made when the module is loaded, by one thread: msgspec crashes when several meet a type for the first time at once.
_DOCUMENTS = msgspec.json.Decoder(Document)
