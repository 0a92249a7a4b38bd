"""The one function that takes secrets out of a text that others wrote, on its way to a person, a log or a record.

What a secret is, others know: `service.redaction` of a whole project, `postgres.connection` of one target.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORTEST = 3  # characters; replacing less would only garble the text
_ELEMENT = 6  # characters of one element of a list
_USERINFO = re.compile(r"(?<=://)[^\s'\"]*@")
_PASSWORD = re.compile(r"((?:ssl)?password\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s&;'\"]+)", re.IGNORECASE)
_AGE = re.compile(r"AGE-SECRET-KEY-\w+", re.IGNORECASE)


def elements(value: str) -> set[str]:
    """Return a secret that may be a list, with its longer elements: each shows alone in an error about it."""
    return {value, *(part for part in re.split(r"[\s,;]+", value) if len(part) >= _ELEMENT)}


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets, the longest first, and whatever looks like credentials or an age secret key."""
    for secret in sorted({one for one in secrets if len(one) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _PASSWORD.sub(r"\1***", _USERINFO.sub("***@", _AGE.sub("***", text)))
