"""What a store's refusals mean, as errors with a hint. By code and class only; no request is quoted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockstep.errors import BucketError

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

    from lockstep.storage.bucket import BucketSettings

MISSING = frozenset({"404", "NoSuchKey", "NoSuchUpload"})
TAKEN = frozenset({"412", "PreconditionFailed"})
FORBIDDEN = frozenset({"403", "AccessDenied", "AllAccessDisabled"})
NO_LOCK = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})

_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
)
_OTHER_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
_BUSY = frozenset({"SlowDown", "RequestTimeout", "Throttling", "OperationAborted", "ConditionalRequestConflict"})

_CREDENTIALS_HINT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_RIGHTS_HINT = (
    "grant s3:ListBucket and s3:ListBucketMultipartUploads on the bucket; s3:GetObject, s3:PutObject and "
    "s3:AbortMultipartUpload on its objects, and s3:DeleteObject to whoever runs backups prune; "
    "docs/how-to/backups-in-another-account.md has a policy"
)


def explained(error: BotoCoreError | ClientError, settings: BucketSettings) -> BucketError:
    """Return the error that says what happened, whether to try again, and what to do."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        answer = error.response.get("Error", {}).get("Code", "")
        return _refused(answer, error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0), settings)
    return _unanswered(error, settings)


def _refused(code: str, status: int, settings: BucketSettings) -> BucketError:
    elsewhere = _UNUSED_ENDPOINT if settings.unused_endpoint else None
    if code in _CREDENTIALS:
        return _error(settings, f"the credentials were refused ({code})", hint=elsewhere or _CREDENTIALS_HINT)
    if code == "NoSuchBucket":
        hint = elsewhere or "create it, or correct [backup] bucket in lockstep.toml"
        return _error(settings, "there is no such bucket", hint=hint)
    if code in _OTHER_REGION:
        hint = elsewhere or "set [backup] region in lockstep.toml"
        return _error(settings, f"the bucket is in another region ({code})", hint=hint)
    if code == "RequestTimeTooSkewed":
        return _error(settings, "this machine's clock differs too much from the store's", hint="set the clock")
    if status == 403:
        return _error(
            settings, f"these credentials may not do that ({code})", denied=True, hint=elsewhere or _RIGHTS_HINT
        )
    again = status >= 500 or status == 429 or code in _BUSY
    return _error(settings, f"the store answered {code} (HTTP {status})", retryable=again)


def _unanswered(error: BotoCoreError, settings: BucketSettings) -> BucketError:
    from botocore import exceptions as boto

    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return _error(settings, "no AWS credentials were found", hint=_CREDENTIALS_HINT)
    if isinstance(error, boto.SSLError):
        return _error(settings, "the endpoint's TLS certificate was not accepted", hint="set AWS_CA_BUNDLE")
    if isinstance(error, boto.ConnectionError | boto.HTTPClientError | boto.IncompleteReadError):
        where = _USERINFO.sub("", settings.endpoint_url) if settings.endpoint_url else "AWS"
        hint = "check [backup] endpoint_url in lockstep.toml and the network"
        if settings.unused_endpoint:
            hint = _UNUSED_ENDPOINT
        elif settings.endpoint_url is None:
            hint = "check the network; another store than AWS needs [backup] endpoint_url in lockstep.toml"
        return _error(settings, f"no answer from {where} ({type(error).__name__})", retryable=True, hint=hint)
    return _error(settings, f"the request could not be made ({type(error).__name__})", hint=_CREDENTIALS_HINT)


_UNUSED_ENDPOINT = (
    "AWS was asked: S3_ENDPOINT_URL is set, but lockstep.toml does not use it; "
    'write endpoint_url = "${S3_ENDPOINT_URL}" under [backup]'
)


_USERINFO = re.compile(r"(?<=://)[^/]*@")


def _error(
    settings: BucketSettings, cause: str, *, retryable: bool = False, denied: bool = False, hint: str | None = None
) -> BucketError:
    return BucketError(cause, bucket=f"s3://{settings.name}", retryable=retryable, denied=denied, hint=hint)
