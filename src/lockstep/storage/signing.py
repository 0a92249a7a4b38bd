"""The signature of a request whose body was hashed already: that digest is used, and the body not hashed again.

It must not weaken anything: the signature covers the same SHA-256 that botocore would compute, and a body that is not
the hashed one is refused by the store. Registered under a name of its own, so nobody else's clients are touched.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME = "lockstep-s3v4"
HEADER = "x-amz-checksum-sha256"  # of the body, base64; Amazon S3 API reference, UploadPart


def reuse_digests(client: S3Client) -> None:
    """Let a client sign the parts that it uploads with the SHA-256 that they come with. Once per client."""
    from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

    class Signer(S3SigV4Auth):
        def payload(self, request: Any) -> str:
            digest = request.headers.get(HEADER)
            return base64.b64decode(digest).hex() if digest else str(super().payload(request))

    AUTH_TYPE_MAPS.setdefault(NAME, Signer)
    client.meta.events.register("choose-signer.s3.UploadPart", _choose)  # type: ignore[arg-type]  # some handlers answer


def _choose(signature_version: object, **_: object) -> str | None:
    # Other signatures (of directory buckets, of multi-region access points, none at all) stay what they are.
    return NAME if signature_version in {"v4", "s3v4"} else None
