"""Encryption of archives to age public keys (https://age-encryption.org/v1): who can back up cannot read backups.

It must not know buckets or manifests, and shows no secret key in any message. pyrage is imported when something is
encrypted or decrypted, and not before: the command line's start must not pay for it (docs/adr/0014-age-encryption.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from lockstep.errors import BackupDamaged, ConfigError

if TYPE_CHECKING:
    from pyrage import x25519

PUBLIC = "age1"
SECRET = "AGE-SECRET-KEY-"
LARGEST_IDENTITY = 1024 * 1024  # bytes of a file of keys; a larger one is something else


class Identity:
    """The secret keys of one file. It never shows itself; `public` is all that may be printed.

    Not for pickling: a key must not travel.
    """

    __slots__ = ("_keys", "public")

    def __init__(self, keys: Sequence[x25519.Identity]) -> None:
        self._keys = tuple(keys)
        self.public = tuple(str(key.to_public()) for key in keys)  # the age public keys that it decrypts for

    @classmethod
    def read(cls, file: Path, *, where: str) -> Identity:
        """Read a file as age-keygen writes it: a secret key a line; empty lines and those with # are passed over.

        `where` is what messages call its origin. Raises ConfigError when it cannot be read or holds anything else; no
        message quotes a line of it.
        """
        from pyrage import IdentityError, x25519

        try:
            with file.open("rb") as opened:
                document = opened.read(LARGEST_IDENTITY + 1)
        except OSError as error:
            problem = f"the file of the age identity cannot be read: {file} ({error.strerror})"
            raise ConfigError(problem, where=where, hint="docs/how-to/encrypt-backups.md") from error
        if document.startswith((b"age-encryption.org/", b"-----BEGIN AGE ENCRYPTED FILE")):
            raise ConfigError(
                f"{file} is itself encrypted with a passphrase, which nobody could type in a deploy",
                where=where,
                hint="store the output of: age -d FILE, where only this machine's user can read it",
            )
        keys = []
        for number, line in enumerate(document.splitlines(), 1):
            if not (text := line.strip()) or text.startswith(b"#"):
                continue
            try:
                keys.append(x25519.Identity.from_str(text.decode("ascii")))
            except (UnicodeDecodeError, IdentityError):
                problem = f"line {number} of {file} is not an age secret key ({SECRET}1…)"
                raise ConfigError(problem, where=where, hint="age-keygen makes one") from None
        if not keys:
            raise ConfigError(f"{file} holds no age secret key", where=where, hint="age-keygen makes one")
        return cls(keys)

    def fits(self, recipients: Sequence[str]) -> bool:
        """Tell whether one of the keys decrypts what was encrypted to these recipients."""
        return not set(self.public).isdisjoint(recipients)

    def decrypted(self, chunks: Iterable[bytes], *, what: str) -> Generator[bytes]:
        """Give the plain bytes of an age file, as they become known to be genuine, in constant memory.

        Every 64 KiB are checked before they are given; only when the iterator ends is it known that nothing is
        missing. What `chunks` raises comes through. Raises BackupDamaged, naming `what`, when the bytes are no age
        file, not for these keys, changed, or cut short. Close the iterator when leaving it early.
        """
        import pyrage

        keys = list(self._keys)
        try:
            yield from _through(lambda ends: pyrage.decrypt_io(ends, ends, keys), chunks)
        except _Failed as error:
            if not isinstance(error.__cause__, pyrage.DecryptError | OSError):
                raise
            raise BackupDamaged("cannot be decrypted: it was changed or cut short", what=what) from None

    def __repr__(self) -> str:
        return f"Identity({len(self._keys)} keys)"

    def __reduce__(self) -> str:
        raise TypeError("an Identity is not for pickling")


def parse_recipients(texts: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Check age public keys and return them, each once, in order.

    Raises ConfigError at `where` for one that is none; a secret key in its place is not quoted.
    """
    from pyrage import RecipientError, x25519

    for number, text in enumerate(texts, 1):
        if text.strip().upper().startswith(SECRET):
            raise ConfigError(
                f"encrypt_to: key {number} is a secret key. Whoever reads this file can read what it encrypted",
                where=where,
                hint=f"make a new pair with age-keygen, and write its public key here ({PUBLIC}…)",
            )
        try:
            x25519.Recipient.from_str(text.strip())
        except RecipientError:
            raise ConfigError(
                f"encrypt_to: key {number} is not an age public key ({PUBLIC}…, 62 characters)",
                where=where,
                hint="age-keygen -y FILE shows the public key of a secret one",
            ) from None
    return tuple(dict.fromkeys(text.strip().lower() for text in texts))


def encrypt(chunks: Iterable[bytes], write: Callable[[bytes], object], recipients: Sequence[str]) -> None:
    """Encrypt a stream to age public keys, any one of which decrypts it, in constant memory.

    Returns when all of it was written. What `chunks` or `write` raises comes out as it is, whatever it is, and then
    nothing more was written: the part that was is no complete age file, and age says so. `recipients` are those of
    `parse_recipients`, at least one.
    """
    import pyrage

    keys = [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    if not keys:
        raise ValueError("encrypt needs a recipient")
    with closing(_through(lambda ends: pyrage.encrypt_io(ends, ends, keys), chunks)) as encrypted:
        for chunk in encrypted:
            write(chunk)


# -- the library turned inside out --------------------------------------------------------------------------------
#
# pyrage pulls from a reader and pushes to a writer, and what these raise comes out as its own error, with the first
# one's text (1.4.0; the ADR has the cases). A Ctrl-C that arrives while it computes is raised in the callback before
# its first statement, where nothing can catch it. So it works in a thread of its own, where no signal is delivered,
# and its two ends are queues: reading, writing, and whatever ends them stay in the caller's thread.


class _Failed(Exception):
    """The library's own failure; `__cause__` is what it raised."""


class _Ended(NamedTuple):
    error: BaseException | None


class _Abandoned(Exception):
    pass


class _Ends:
    """Reader and writer of the library, in its thread."""

    def __init__(self) -> None:
        self.said: SimpleQueue[bytes | _Ended | None] = SimpleQueue()  # output; or the end; or None: more input, please
        self.given: SimpleQueue[bytes | None] = SimpleQueue()  # input, b"" at its end; None: nobody wants the rest
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._rest:
            self.said.put(None)
            chunk = self.given.get()
            if chunk is None:
                raise _Abandoned
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def write(self, data: bytes) -> int:
        self.said.put(data)
        return len(data)

    def flush(self) -> None:
        pass


def _through(work: Callable[[_Ends], object], chunks: Iterable[bytes]) -> Generator[bytes]:
    """Give what `work` writes while it reads `chunks`. It gets no further ahead than one chunk of input."""
    ends = _Ends()

    def run() -> None:
        error: BaseException | None = None
        try:
            work(ends)
        except BaseException as raised:  # also the panics of Rust code
            error = raised
        ends.said.put(_Ended(error))

    thread = threading.Thread(target=run, name="lockstep-age", daemon=True)
    source = (chunk for chunk in chunks if chunk)
    thread.start()
    try:
        while True:
            said = ends.said.get()
            if said is None:
                ends.given.put(next(source, b""))
            elif isinstance(said, _Ended):
                if said.error is not None:
                    raise _Failed(f"age failed ({type(said.error).__name__})") from said.error
                return
            else:
                yield said
    finally:
        ends.given.put(None)
        thread.join()
