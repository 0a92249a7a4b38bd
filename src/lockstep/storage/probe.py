"""A probe object: what these credentials may do in the bucket, each right tried and not read from a policy.

It must leave nothing behind where it may delete; what stays is in the report. What follows from an answer is for
others to say.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

from lockstep.core.setup_rules import ClockReading
from lockstep.errors import BucketError
from lockstep.storage.bucket import Bucket, BucketSettings, Patience
from lockstep.storage.refusals import FORBIDDEN, NO_LOCK, explained

PATIENCE = Patience(connect=3, read=5, attempts=2)
NAME = "doctor-probe-"  # right below the configured folder, where no environment's backup lies
LEFT_OVER = timedelta(minutes=2)  # an older probe is nobody's any more
LOCK_MS = 20 * 60_000  # of a probe: beyond any skew that a signature survives, and over soon


class Request(Enum):
    """What was tried; the value is the right that it needs, as IAM calls it."""

    LIST = "s3:ListBucket"
    PUT = "s3:PutObject"
    TAGS = "s3:PutObjectTagging"
    LOCK = "s3:PutObjectRetention"
    KEY = "kms:GenerateDataKey"
    GET = "s3:GetObject"
    CONDITION = "s3:PutObject, If-None-Match"  # no right of its own: the store must refuse to overwrite
    UPLOAD = "s3:PutObject, multipart"
    ABORT = "s3:AbortMultipartUpload"
    UPLOADS = "s3:ListBucketMultipartUploads"
    DELETE = "s3:DeleteObject"
    VERSIONS = "s3:GetBucketVersioning"
    LOCKS = "s3:GetBucketObjectLockConfiguration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request."""

    request: Request
    error: BucketError | None = None  # None: it was done
    found: str = ""  # what the store told; "": nothing to tell


@dataclass(slots=True)
class ProbeReport:
    """What came of all of them. A request that is not here was not tried, since one that it needs failed."""

    answers: list[Answer] = field(default_factory=list)
    clock: ClockReading | None = None  # None: no answer, or one without a date
    left: list[str] = field(default_factory=list)  # keys that stay, with why in words

    def answer(self, request: Request) -> Answer | None:
        """Return what came of one request, None when it was not tried."""
        return next((one for one in self.answers if one.request is request), None)

    def done(self, request: Request) -> bool:
        """Whether a request was tried, and worked."""
        found = self.answer(request)
        return found is not None and found.error is None


class _Probing(Bucket):
    """A bucket that also answers questions about itself."""

    def look(self, prefix: str, report: ProbeReport) -> list[tuple[str, datetime]]:
        """List a few keys; the answer's date is the store's clock, also where the answer is a refusal."""
        from botocore.exceptions import ClientError

        before = datetime.now(UTC)
        with self._translating():
            try:
                answer = self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, MaxKeys=10)
            except ClientError as error:
                report.clock = _clock(error.response, before)
                raise
        report.clock = _clock(answer, before)
        return [(item["Key"], item["LastModified"]) for item in answer.get("Contents", ())]

    def encryption(self, key: str) -> str:
        """How the store has encrypted an object, in its own word; "" when it does not say."""
        with self._translating():
            return str(self._client.head_object(Bucket=self.name, Key=key).get("ServerSideEncryption") or "")

    def versioning(self) -> str:
        """`Enabled`, `Suspended`, or "" for never."""
        with self._translating():
            return str(self._client.get_bucket_versioning(Bucket=self.name).get("Status") or "")

    def lock_rule(self) -> str:
        """The bucket's object lock in words; "" when it has none."""
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object_lock_configuration(Bucket=self.name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in NO_LOCK:
                return ""
            if code in FORBIDDEN:
                raise explained(error, self.settings) from error
            return ""  # a store that does not know the question
        rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
        if not rule:
            return "possible, none by default"
        time = f"{rule['Days']} days" if rule.get("Days") else f"{rule.get('Years')} years"
        return f"every object for {time} ({rule.get('Mode')})"


def _clock(answer: object, before: datetime) -> ClockReading | None:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) if isinstance(answer, dict) else {}
    try:
        theirs = parsedate_to_datetime(str(headers.get("date")))
    except ValueError:
        return None
    return ClockReading(before=before, theirs=theirs, after=datetime.now(UTC), step=timedelta(seconds=1))


def probe(settings: BucketSettings) -> ProbeReport:
    """Try every request that backups make, on one small object of our own, and remove it again.

    A first request that fails for another reason than a right ends it: the others would fail for the same one. Raises
    ConfigError and BucketError only when the client itself cannot be made.
    """
    report = ProbeReport()
    if settings.lock_ms:
        settings = replace(settings, lock_ms=LOCK_MS)
    with _Probing(settings, patience=PATIENCE) as bucket:
        _Tries(bucket, report).run()
    return report


class _Tries:
    def __init__(self, bucket: _Probing, report: ProbeReport) -> None:
        self._bucket = bucket
        self._settings = bucket.settings
        self._report = report
        self._key = f"{self._settings.prefix}{NAME}{secrets.token_hex(8)}"
        self._here = False  # an object lies, or may lie, under the key

    def run(self) -> None:
        keys: list[tuple[str, datetime]] = []
        if not self._try(
            Request.LIST, lambda: keys.extend(self._bucket.look(self._settings.prefix + NAME, self._report))
        ):
            failed = self._report.answers[0].error
            if failed is not None and not failed.denied:
                return
        now = self._report.clock.theirs if self._report.clock else datetime.now(UTC)
        # Where nothing may be deleted, one probe serves for ever: a try to overwrite it needs the same right.
        old = next((key for key, modified in keys if now - modified > LEFT_OVER), None)
        if old is not None:
            self._key = old
        try:
            self._object(there=old is not None)
            self._upload()
        finally:
            self._remove()
        self._ask(Request.VERSIONS, self._bucket.versioning)
        self._ask(Request.LOCKS, self._bucket.lock_rule)
        self._try(Request.UPLOADS, lambda: next(self._bucket.uploads(self._settings.prefix + NAME), None))

    def _object(self, *, there: bool) -> None:
        body = secrets.token_bytes(32)
        self._here = there
        made = there or self._put(body)
        if not made:
            # A right to read shows on a key that is not there as well, for whoever may list.
            if self._report.done(Request.LIST):
                self._try(Request.GET, lambda: self._bucket.read(self._key))
            return
        if self._try(Request.GET, lambda: self._bucket.read(self._key)):
            if self._settings.server_side_encryption:
                with suppress(BucketError):
                    self._found(Request.PUT, self._bucket.encryption(self._key))
            self._try(Request.CONDITION, self._overwrite)

    def _put(self, body: bytes) -> bool:
        self._here = True  # also when the answer is lost
        if self._try(Request.PUT, lambda: _create(self._bucket, self._key, body)):
            return True
        error = self._report.answers[-1].error
        assert error is not None
        self._here = not error.denied
        return error.denied and self._put_with_less(error, body)

    def _put_with_less(self, error: BucketError, body: bytes) -> bool:
        """Find out which of the object's extras needs the right that is missing. False: it is the object itself."""
        plain = replace(self._settings, tags=(), lock_ms=None)
        without_key = replace(plain, server_side_encryption=None, kms_key=None)
        keyed = self._settings.server_side_encryption == "aws:kms"
        extras = [(Request.TAGS, replace(plain, tags=self._settings.tags))] if self._settings.tags else []
        extras += [(Request.LOCK, replace(plain, lock_ms=self._settings.lock_ms))] if self._settings.lock_ms else []
        if not extras or not self._made_with(plain, body):
            if not keyed or not self._made_with(without_key, body):
                return False
            extras = [(Request.KEY, plain)]  # the others cannot be tried without it
        # Each is tried alone, on the key that is taken now: nothing is stored.
        self._report.answers.pop()
        for request, settings in extras:
            with Bucket(settings, patience=PATIENCE) as bucket:
                self._try(request, lambda bucket=bucket: _create(bucket, self._key, secrets.token_bytes(32)))  # type: ignore[misc]
        if all(self._report.done(request) for request, _ in extras):
            self._report.answers.append(Answer(request=Request.PUT, error=error))
        return True

    def _made_with(self, settings: BucketSettings, body: bytes) -> bool:
        with Bucket(settings, patience=PATIENCE) as bucket:
            try:
                made = _create(bucket, self._key, body)
            except BucketError as error:
                self._here |= not error.denied
                return False
        self._here = True
        return made

    def _overwrite(self) -> None:
        if _create(self._bucket, self._key, secrets.token_bytes(32)):
            raise BucketError(
                "the store ignored If-None-Match and overwrote an object",
                bucket=f"s3://{self._bucket.name}",
                hint="use a store that knows conditional writes: two runs could overwrite each other's backup",
            )

    def _upload(self) -> None:
        key = f"{self._key}-upload"
        upload = ""

        def begin() -> None:
            nonlocal upload
            upload = self._bucket.begin_upload(key)
            body = bytearray(os.urandom(32))
            self._bucket.put_part(key, upload, 1, body, size=len(body), sha256=hashlib.sha256(body).digest())

        self._try(Request.UPLOAD, begin)
        if upload and not self._try(Request.ABORT, lambda: self._bucket.abort_upload(key, upload)):
            self._report.left.append(f"an unfinished upload of {key}")

    def _remove(self) -> None:
        if not self._here:
            return
        hidden = False

        def delete() -> None:
            nonlocal hidden
            hidden = not self._bucket.delete(self._key)

        if not self._try(Request.DELETE, delete):
            self._report.left.append(self._key)
        elif hidden:
            lock = f", locked for {LOCK_MS // 60_000} min or longer" if self._settings.lock_ms else ""
            self._report.left.append(
                f"an old version of {self._key} (out of sight, as of all that is deleted there{lock})"
            )

    # -- what came of it ----------------------------------------------------------------------------------------

    def _try(self, request: Request, work: Callable[[], object]) -> bool:
        try:
            work()
        except BucketError as error:
            self._report.answers.append(Answer(request=request, error=error))
            return False
        self._report.answers.append(Answer(request=request))
        return True

    def _ask(self, request: Request, work: Callable[[], object]) -> None:
        try:
            self._report.answers.append(Answer(request=request, found=str(work())))
        except BucketError as error:
            self._report.answers.append(Answer(request=request, error=error))

    def _found(self, request: Request, text: str) -> None:
        self._report.answers = [
            replace(one, found=text) if one.request is request else one for one in self._report.answers
        ]


def _create(bucket: Bucket, key: str, body: bytes) -> bool:
    return bucket.create(key, body, sha256=hashlib.sha256(body).digest(), content_type="application/octet-stream")
