"""The bucket that holds the backups: every request to S3 is made here, and every answer understood here.

It must not know what a backup is. boto3 takes 0.2 s to import, so it is imported when a bucket is opened and not
before. Errors leave this module as BucketError: they name the bucket and the cause, and quote no request.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol, Self, TypedDict
from urllib.parse import urlencode

from lockstep.core import steps
from lockstep.errors import BucketError, ConfigError
from lockstep.storage.refusals import FORBIDDEN, MISSING, NO_LOCK, TAKEN, explained
from lockstep.storage.signing import reuse_digests

if TYPE_CHECKING:
    from botocore.loaders import Loader
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ObjectLockModeType, ServerSideEncryptionType
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 60  # seconds without a byte from the server
READERS = 8  # requests at once for small objects
LARGEST_DOCUMENT = 64 * 1024 * 1024  # bytes of an object that is read whole: contents of 300,000 tables
ATTEMPTS = 4  # of each request, with backoff between them; a part's body is at hand until it is stored

_URL = re.compile(r"s3://(?P<name>[a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:/(?P<prefix>[^?#]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """Which bucket, and where. Credentials are not here: they come by the standard AWS chain."""

    url: str  # s3://NAME or s3://NAME/PREFIX
    unused_endpoint: bool = False  # S3_ENDPOINT_URL is set, and the configuration does not use it
    endpoint_url: str | None = None  # an S3-compatible store; None: AWS itself
    region: str | None = None  # None: what the AWS chain says, else us-east-1
    server_side_encryption: ServerSideEncryptionType | None = (
        None  # AES256 or aws:kms; None: what the bucket does by itself
    )
    kms_key: str | None = None  # None: the account's own
    tags: tuple[tuple[str, str], ...] = ()  # of every object that is stored
    lock_ms: int | None = None  # how long an object is locked, from when its upload begins; None: not

    @property
    def name(self) -> str:
        """The bucket's name. Raises ConfigError when the URL is none."""
        return self._parts()["name"]

    @property
    def prefix(self) -> str:
        """What every key begins with: "" or "some/folder/". Raises ConfigError when the URL is none."""
        prefix = (self._parts()["prefix"] or "").strip("/")
        return f"{prefix}/" if prefix else ""

    def _parts(self) -> re.Match[str]:
        match = _URL.fullmatch(self.url)
        if match is None:
            raise ConfigError("must look like s3://BUCKET or s3://BUCKET/FOLDER", where="[backup] bucket")
        return match


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """Receipt of one part of an unfinished upload."""

    number: int  # from 1
    etag: str  # the server's name for it
    sha256: bytes  # digest that the server checked


class StoredObject(NamedTuple):
    """One line of a listing."""

    key: str
    size: int  # bytes
    modified: datetime  # by the store's clock


class Upload(NamedTuple):
    """An unfinished multipart upload: no object, and paid for."""

    key: str
    id: str
    size: int  # bytes of its parts
    active: datetime  # when it was begun or its newest part was stored, by the store's clock


class Patience(NamedTuple):
    """How long a request may take, where it is not CONNECT_TIMEOUT, READ_TIMEOUT and ATTEMPTS."""

    connect: float  # seconds
    read: float  # seconds without a byte from the server
    attempts: int


_MARK = "lockstep-upload"  # metadata of an object: which upload made it


class _Translating(Protocol):
    def __call__(self) -> AbstractContextManager[None]: ...


class _Storing(TypedDict, total=False):
    ServerSideEncryption: ServerSideEncryptionType
    SSEKMSKeyId: str
    Tagging: str
    ObjectLockMode: ObjectLockModeType
    ObjectLockRetainUntilDate: datetime


class _Over(TypedDict, total=False):
    IfMatch: str
    IfNoneMatch: str


class _Conditions(TypedDict, total=False):
    Range: str
    IfMatch: str


class Body:
    """The bytes of an object from some point on, as they arrive. `read` raises BucketError when the connection breaks."""

    def __init__(self, stream: StreamingBody, *, size: int, etag: str, translating: _Translating) -> None:
        self.size = size  # bytes of the whole object
        self.etag = etag
        self._stream = stream
        self._translating = translating

    def read(self, most: int) -> bytes:
        """Return the next bytes; b"" at the end."""
        with self._translating():
            return self._stream.read(most)

    def close(self) -> None:
        """End the request, wherever it is."""
        self._stream.close()


def _whole(body: StreamingBody) -> bytes:
    """A small object's bytes. Of one that is larger than any document of ours nothing: then it cannot be read."""
    found = body.read(LARGEST_DOCUMENT + 1)
    return found if len(found) <= LARGEST_DOCUMENT else b""


@cache
def _descriptions(folders: str | None) -> Loader:
    """What botocore reads of S3's requests and answers: 0.2 s, and the same for every bucket that a process opens."""
    from botocore.loaders import create_loader

    return create_loader(folders)


class Bucket:
    """One bucket. Safe to use from several threads. Use it as a context manager, or call `close`.

    Opening it asks the network nothing (but for credentials, where the AWS chain asks a metadata service). Every
    method raises BucketError. Keys are whole keys, prefix included.
    """

    def __init__(self, settings: BucketSettings, *, patience: Patience | None = None) -> None:
        import boto3
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.settings = settings
        self.name = settings.name
        self._can_lock = False  # not known
        patience = patience or Patience(CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS)
        inner = botocore.session.get_session()
        session = boto3.session.Session(botocore_session=inner)
        inner.register_component("data_loader", _descriptions(inner.get_config_variable("data_path")))
        config = Config(
            connect_timeout=patience.connect,
            read_timeout=patience.read,
            retries={"mode": "standard", "total_max_attempts": patience.attempts},
            tcp_keepalive=True,
            # A custom endpoint's certificate and DNS rarely cover BUCKET.host.
            s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
            # What we store carries a SHA-256 of ours. The CRC that botocore adds on top is refused by some stores.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            self._client: S3Client = session.client(
                "s3",
                endpoint_url=settings.endpoint_url,
                region_name=settings.region or session.region_name or "us-east-1",
                config=config,
            )
        except ValueError as error:  # botocore's word for an endpoint that is no URL
            raise ConfigError("is not the URL of an S3 endpoint", where="[backup] endpoint_url") from error
        except BotoCoreError as error:
            raise explained(error, settings) from error
        reuse_digests(self._client)
        if steps.listening():
            from lockstep.storage.spoken import tell_requests  # late: only --verbose wants it

            tell_requests(self._client)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- whole objects ------------------------------------------------------------------------------------------

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """List what is stored under `prefix`, by key."""
        with self._translating():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for item in page.get("Contents", ()):
                    yield StoredObject(item["Key"], item["Size"], item["LastModified"])

    def folders(self, prefix: str) -> Iterator[str]:
        """List the names of the folders right below `prefix`, which is "" or ends in a slash."""
        with self._translating():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, Delimiter="/"):
                for item in page.get("CommonPrefixes", ()):
                    yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def now(self) -> datetime:
        """The store's own time, to the second: what `modified` and `active` are compared with."""
        with self._translating():
            answer = self._client.list_objects_v2(Bucket=self.name, MaxKeys=1)
            return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def size(self, key: str) -> int | None:
        """Bytes of an object as the server has it, or None when there is none."""
        with self._translating(missing_is_fine=True):
            return self._client.head_object(Bucket=self.name, Key=key)["ContentLength"]
        return None

    def read(self, key: str) -> bytes | None:
        """Return a small object whole, or None when there is none."""
        with (
            self._translating(missing_is_fine=True),
            self._client.get_object(Bucket=self.name, Key=key)["Body"] as body,
        ):
            return _whole(body)
        return None

    def read_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """Return a small object whole with the server's name for this version of it, or None when there is none."""
        with self._translating(missing_is_fine=True):
            answer = self._client.get_object(Bucket=self.name, Key=key)
            with answer["Body"] as body:
                return _whole(body), answer["ETag"]
        return None

    def body(self, key: str, *, start: int = 0, etag: str | None = None) -> Body | None:
        """Open an object from byte `start` on. None when there is none, or, with `etag`, when it is another one."""
        conditions: _Conditions = {}
        if start:
            conditions["Range"] = f"bytes={start}-"
        if etag is not None:
            conditions["IfMatch"] = etag
        with self._translating(missing_is_fine=True, taken_is_fine=etag is not None):
            answer = self._client.get_object(Bucket=self.name, Key=key, **conditions)
            size = start + answer["ContentLength"]
            return Body(answer["Body"], size=size, etag=answer["ETag"], translating=self._translating)
        return None

    def read_all(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Return small objects whole, in order, several requests at a time."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="lockstep-read") as pool:
            yield from pool.map(self.read, keys)

    def locked_until(self, key: str) -> datetime | None:
        """Until when nobody can delete an object; None when it is not locked, or not there. May lie in the past."""
        with self._translating(missing_is_fine=True):
            return self._client.head_object(Bucket=self.name, Key=key).get("ObjectLockRetainUntilDate")
        return None

    def create(self, key: str, body: bytes, *, sha256: bytes, content_type: str) -> bool:
        """Store a small object where there is none. False, and nothing changed, when there is another one already.

        When the answer to our own write was lost, the next try finds our own document there: that is success.
        """
        how = self._how_to_store()
        with self._translating(taken_is_fine=True):
            self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                ChecksumSHA256=_base64(sha256),
                IfNoneMatch="*",
                **how,
            )
            return True
        return self.read(key) == body

    def replace(self, key: str, body: bytes, *, sha256: bytes, content_type: str, etag: str | None) -> bool:
        """Store a small object over the version `etag`, or where there is none (None). False when it is another by now.

        Never locked: it is written again. A store that knows no such condition replaces whatever is there.
        """
        how = self._how_to_store(lock=False)
        condition: _Over = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        with self._translating(missing_is_fine=True, taken_is_fine=True):
            self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                ChecksumSHA256=_base64(sha256),
                **condition,
                **how,
            )
            return True
        return self.read(key) == body  # the answer to our own write may have been lost

    def put(self, key: str, body: bytes, *, sha256: bytes, content_type: str, cache_control: str) -> None:
        """Store a small object, whatever is there. Never locked: it is written again. No right is given to anybody."""
        how = self._how_to_store(lock=False)
        with self._translating():
            self._client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                CacheControl=cache_control,
                ChecksumSHA256=_base64(sha256),
                **how,
            )

    def delete(self, key: str) -> bool:
        """Remove an object; fine when there is none. False: the bucket keeps it as an old version, out of sight."""
        with self._translating():
            return not self._client.delete_object(Bucket=self.name, Key=key).get("DeleteMarker", False)

    # -- multipart uploads: nothing is visible under the key before `finish_upload` -----------------------------

    def begin_upload(self, key: str, *, mark: str = "") -> str:
        """Start an upload and return its id. `mark`, which no other upload has, goes with the object."""
        how = self._how_to_store()
        metadata = {_MARK: mark} if mark else {}
        with self._translating():
            answer = self._client.create_multipart_upload(
                Bucket=self.name, Key=key, ChecksumAlgorithm="SHA256", Metadata=metadata, **how
            )
            return answer["UploadId"]

    def put_part(
        self, key: str, upload: str, number: int, body: bytearray | IO[bytes], *, size: int, sha256: bytes
    ) -> StoredPart:
        """Store one part. The server compares it with `sha256` and refuses a part that was damaged on its way."""
        with self._translating():
            answer = self._client.upload_part(
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # botocore takes a bytearray; the stubs forgot it
                ContentLength=size,
                ChecksumSHA256=_base64(sha256),
            )
            return StoredPart(number=number, etag=answer["ETag"], sha256=sha256)

    def finish_upload(self, key: str, upload: str, parts: Sequence[StoredPart], *, mark: str = "") -> bool:
        """Make the object of its parts. False, and no object made, when the key is taken already.

        When the answer was lost, the next try finds the key taken or the upload gone. Then an object with our `mark`
        is the proof that it was made.
        """
        receipts: list[CompletedPartTypeDef] = [
            {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": _base64(part.sha256)}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        try:
            with self._translating(taken_is_fine=True):
                self._client.complete_multipart_upload(
                    Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": receipts}, IfNoneMatch="*"
                )
                return True
        except BucketError:
            if not self._is_marked(key, mark):
                raise
        return self._is_marked(key, mark)

    def _is_marked(self, key: str, mark: str) -> bool:
        with self._translating(missing_is_fine=True):
            return bool(mark) and self._client.head_object(Bucket=self.name, Key=key)["Metadata"].get(_MARK) == mark
        return False

    def abort_upload(self, key: str, upload: str) -> None:
        """Throw an unfinished upload away with its parts; fine when there is none."""
        with self._translating(missing_is_fine=True):
            self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload)

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """List the unfinished uploads under `prefix`."""
        with self._translating():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=prefix)
            begun = [
                (item["Key"], item["UploadId"], item["Initiated"])
                for page in pages
                for item in page.get("Uploads", ())
                if item["Key"].startswith(prefix)
            ]
        for key, upload, at in begun:
            with self._translating(missing_is_fine=True):
                parts = [
                    (part["Size"], part["LastModified"])
                    for page in self._client.get_paginator("list_parts").paginate(
                        Bucket=self.name, Key=key, UploadId=upload
                    )
                    for part in page.get("Parts", ())
                ]
                yield Upload(key, upload, sum(size for size, _ in parts), max((at, *(t for _, t in parts))))

    # -- how objects are stored ---------------------------------------------------------------------------------

    def _how_to_store(self, *, lock: bool = True) -> _Storing:
        settings = self.settings
        how: _Storing = {}
        if settings.server_side_encryption:
            how["ServerSideEncryption"] = settings.server_side_encryption
        if settings.kms_key:
            how["SSEKMSKeyId"] = settings.kms_key
        if settings.tags:
            how["Tagging"] = urlencode(settings.tags)
        if settings.lock_ms and lock:
            self._refuse_without_lock()
            how["ObjectLockMode"] = "GOVERNANCE"  # docs/how-to/backups-in-another-account.md says why
            how["ObjectLockRetainUntilDate"] = datetime.now(UTC) + timedelta(milliseconds=settings.lock_ms)
        return how

    def _refuse_without_lock(self) -> None:
        """A store's own word for it is "invalid request"; so ask before. Who may not ask is not refused here."""
        from botocore.exceptions import ClientError

        if self._can_lock:
            return
        try:
            self._client.get_object_lock_configuration(Bucket=self.name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in NO_LOCK:
                raise BucketError(
                    "this bucket has no object lock, which [backup] object_lock asks for",
                    bucket=f"s3://{self.name}",
                    hint="turn Object Lock on for the bucket (some stores can only when it is made), or remove object_lock",
                ) from None
            if code not in FORBIDDEN:
                raise explained(error, self.settings) from error
        self._can_lock = True

    # -- errors -------------------------------------------------------------------------------------------------

    @contextmanager
    def _translating(self, *, missing_is_fine: bool = False, taken_is_fine: bool = False) -> Iterator[None]:
        """Turn botocore's errors into ours. An answer that is fine ends the block early, without an error."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if (missing_is_fine and code in MISSING) or (taken_is_fine and code in TAKEN):
                return
            raise explained(error, self.settings) from error
        except BotoCoreError as error:
            raise explained(error, self.settings) from error
        except (HTTPError, OSError) as error:  # while a body is read
            cause = f"the connection broke ({type(error).__name__})"
            raise BucketError(cause, bucket=f"s3://{self.name}", retryable=True) from error


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
