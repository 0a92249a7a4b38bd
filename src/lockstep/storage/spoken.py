"""Requests to S3, told one by one with their times (`--verbose`): which operation, what became of it, no key and no header."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lockstep.core import steps

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BEGAN = "lockstep_began"


def tell_requests(client: S3Client) -> None:
    """Tell of each request of a client. Once per client."""
    client.meta.events.register("before-call.s3", _before)
    client.meta.events.register("after-call.s3", _after)


def _before(context: dict[str, Any], **_: object) -> None:
    context[_BEGAN] = time.monotonic()


def _after(http_response: Any, model: Any, context: dict[str, Any], **_: object) -> None:
    took = time.monotonic() - context.get(_BEGAN, time.monotonic())
    steps.done(f"S3: {model.name}, HTTP {http_response.status_code}", took)
