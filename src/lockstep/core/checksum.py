"""Digests of a file's text. Their canonical form is a promise: docs/reference/file-format.md spells it out."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from lockstep.errors import MigrationFileError


def decode(raw: bytes, file: str) -> str:
    """Return the text of a file's bytes: BOM removed, CRLF turned to LF.

    Raises MigrationFileError, with the line, when the bytes are not UTF-8 or hold a NUL.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        wide = raw.startswith(_WIDE)
        raise MigrationFileError(
            f"byte 0x{raw[error.start]:02x} is not UTF-8" + (": the file is in UTF-16" if wide else ""),
            file=file,
            line=line,
            hint=f"save the file as UTF-8 (for example: iconv -f {'utf-16' if wide else 'latin1'} -t utf-8 {file})",
        ) from None
    if "\0" in text:
        raise MigrationFileError(
            "holds a NUL character, which PostgreSQL cannot take",
            file=file,
            line=text.count("\n", 0, text.index("\0")) + 1,
            hint="remove it, or write it as an escape of bytea; where every second character is one, the file is in "
            f"UTF-16 (iconv -f utf-16le -t utf-8 {file})",
        )
    return text.replace("\r\n", "\n")


_WIDE = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16


def checksum(text: str) -> str:
    """SHA-256 (hex) of a decoded text."""
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=16_384)
def content_digest(text: str) -> str | None:
    """SHA-256 (hex) over the SQL tokens: comments and white space do not count, literals count exactly.

    None when the text does not scan as SQL. Costs a scan of the text, so it is asked for only where checksums differ
    or where an entry is written.
    """
    from lockstep.core.grammar import PgQueryError

    digest = hashlib.sha256()
    try:
        for _, token in sql_tokens(text):
            digest.update(token)
            digest.update(b"\0")
    except PgQueryError:
        return None
    return digest.hexdigest()


def sql_tokens(text: str) -> Iterator[tuple[int, bytes]]:
    """Yield the tokens without comments, each with its offset in UTF-8 bytes. A text that does not scan raises postgast's PgQueryError."""
    from lockstep.core.grammar import scan  # late: 70 ms of imports that a status does not need

    masked = mask_restrict(text)
    at = before = 0
    for end in _cuts(masked):
        raw = text[at:end].encode()
        for token in scan(masked[at:end]).tokens:
            if token.token not in _COMMENTS:
                yield before + token.start, raw[token.start : token.end]
        at, before = end, before + len(raw)


#: Characters above which a text is scanned statement by statement: its tokens take several times its size.
_WHOLE = 1024 * 1024


def _cuts(text: str) -> list[int]:
    """Where a text may be cut without cutting a token: after each of its statements where it is large, and at its end."""
    if len(text) <= _WHOLE:
        return [len(text)]
    from lockstep.core.grammar import PgQueryError, split

    found: list[int] = []
    try:
        for piece in split(text):
            found.append(text.index(piece, found[-1] if found else 0) + len(piece))
    except PgQueryError:
        found = []
    return [*found, len(text)]


_COMMENTS = frozenset({275, 276})  # libpg_query: SQL_COMMENT, C_COMMENT


def mask_restrict(text: str) -> str:
    r"""Turn the `\restrict KEY` lines of a pg_dump into comments of the same length, so that positions stay true.

    Only where the scanner sees a command: the same line inside a literal or a comment is left as it is.
    """
    if _RESTRICT.search(text) is None:
        return text
    from lockstep.core.grammar import PgQueryError, scan

    # A key is random. One that begins with a digit is no token, and the scanner would stop there.
    legible = _RESTRICT.sub(lambda match: f"{match[1]}{'k' * len(match[2])}", text)
    try:
        tokens = scan(legible).tokens
    except PgQueryError:
        return text
    raw = legible.encode()
    commands: set[int] = set()
    at = before = 0  # characters and bytes so far
    for token in tokens:
        if token.token == _BACKSLASH:
            at, before = at + len(raw[before : token.start].decode()), token.start
            commands.add(at)
    return _RESTRICT.sub(lambda found: f"--{found[0][2:]}" if found.start() in commands else found[0], text)


_RESTRICT = re.compile(r"^(\\(?:un)?restrict )(\S*)", re.MULTILINE)
_BACKSLASH = 92  # libpg_query's token of a lone backslash


def foreign_checksums(raw: bytes) -> frozenset[str]:
    """What other tools would have recorded for these bytes: hex MD5, SHA-1 and SHA-256, as they stand and with LF."""
    found = set()
    for form in {raw, raw.replace(b"\r\n", b"\n"), raw.replace(b"\r\n", b"\n").strip()}:
        for name in ("md5", "sha1", "sha256"):
            found.add(hashlib.new(name, form, usedforsecurity=False).hexdigest())
    return frozenset(found)


def settings_digest(settings: Mapping[str, str], salt: str) -> str:
    """HMAC-SHA-256 (hex) over setting names and values. The salt is the ledger's own; values cannot be read back."""
    mac = hmac.new(salt.encode(), digestmod=hashlib.sha256)
    for name, value in sorted(settings.items()):
        for part in (name, value):
            data = part.encode()
            mac.update(len(data).to_bytes(8, "big") + data)
    return mac.hexdigest()
