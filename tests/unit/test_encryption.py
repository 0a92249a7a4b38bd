"""Encryption to age keys: nothing incomplete looks complete, nothing raised is lost, no secret key is shown."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrage import x25519

from lockstep.errors import BackupDamaged, ConfigError
from lockstep.storage.encryption import Identity, encrypt, parse_recipients

PLAIN = random.Random(4).randbytes(300_000)  # several of age's pieces of 64 KiB


class Boom(BaseException):
    pass


@pytest.fixture
def key() -> x25519.Identity:
    return x25519.Identity.generate()


def identity(*keys: x25519.Identity) -> Identity:
    return Identity(keys)


def encrypted(plain: bytes, *keys: x25519.Identity) -> bytes:
    stored = bytearray()
    encrypt(pieces(plain), stored.extend, [str(key.to_public()) for key in keys])
    return bytes(stored)


def decrypted(stored: bytes, *keys: x25519.Identity) -> bytes:
    return b"".join(identity(*keys).decrypted(pieces(stored), what="k"))


def pieces(data: bytes) -> Iterator[bytes]:
    """Of odd sizes, an empty one among them."""
    at, size = 0, 1
    while at < len(data):
        yield data[at : at + size]
        yield b""
        at, size = at + size, size * 3


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 300_000])
def test_each_of_the_keys_decrypts_what_was_encrypted(size: int, key: x25519.Identity) -> None:
    other = x25519.Identity.generate()
    stored = encrypted(PLAIN[:size], key, other)
    assert decrypted(stored, key) == decrypted(stored, x25519.Identity.generate(), other) == PLAIN[:size]


def test_what_is_stored_is_an_age_file_that_another_reader_reads(key: x25519.Identity) -> None:
    import pyrage

    assert pyrage.decrypt(encrypted(PLAIN, key), [key]) == PLAIN


@pytest.mark.parametrize(
    "raised", [Boom(), KeyboardInterrupt(), BrokenPipeError(32, "x"), ValueError("v"), SystemExit(3)]
)
@pytest.mark.parametrize("at", [0, 3])
def test_what_reader_or_writer_raise_comes_out_as_it_is(raised: BaseException, at: int, key: x25519.Identity) -> None:
    def failing(chunks: list[bytes]) -> Iterator[bytes]:
        yield from chunks[:at]
        raise raised

    def write(chunk: bytes) -> None:
        got.append(chunk)
        if len(got) > at:
            raise raised

    got: list[bytes] = []
    recipients = [str(key.to_public())]
    chunks = [PLAIN[start : start + 50_000] for start in range(0, len(PLAIN), 50_000)]
    with pytest.raises(type(raised)) as caught:
        encrypt(failing(chunks), got.append, recipients)
    assert caught.value is raised
    with pytest.raises(BackupDamaged):
        decrypted(b"".join(got), key)

    got = []
    with pytest.raises(type(raised)) as caught:
        encrypt(chunks, write, recipients)
    assert caught.value is raised
    assert len(got) == at + 1  # and nothing more was written
    with pytest.raises(BackupDamaged):
        decrypted(b"".join(got), key)

    stored = encrypted(PLAIN, key)
    with pytest.raises(type(raised)) as caught:
        list(identity(key).decrypted(failing([stored[:100], stored[100:70_000], stored[70_000:]]), what="k"))
    assert caught.value is raised


def test_no_thread_stays_when_a_stream_is_left_in_the_middle(key: x25519.Identity) -> None:
    stream = identity(key).decrypted([encrypted(PLAIN, key)], what="k")
    next(stream)
    stream.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "lockstep-age"] == []


INTERRUPTED = """
import os, signal, sys, threading, time
from pyrage import x25519
from lockstep.storage.encryption import encrypt

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Thread(target=lambda: (time.sleep(0.3), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()

def endless():
    while True:
        yield bytes(4 << 20)

try:
    encrypt(endless(), lambda chunk: None, [str(x25519.Identity.generate().to_public())])
except KeyboardInterrupt:
    sys.exit(77)
"""


def test_ctrl_c_comes_out_as_such_although_the_library_computes() -> None:
    # Given straight to pyrage, it comes out as an EncryptError: most of the time passes inside of the library.
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], timeout=30)
    assert done.returncode == 77


def test_every_truncation_and_every_flipped_bit_is_found(key: x25519.Identity) -> None:
    stored = encrypted(PLAIN, key)
    chance = random.Random()
    for cut in (0, 1, 21, 22, 180, 65_552, len(stored) - 1, *(chance.randrange(len(stored)) for _ in range(40))):
        with pytest.raises(BackupDamaged, match="changed or cut short"):
            decrypted(stored[:cut], key)
    for place in (0, 30, len(stored) - 1, *(chance.randrange(len(stored)) for _ in range(40))):
        flipped = bytearray(stored)
        flipped[place] ^= 1 << chance.randrange(8)
        with pytest.raises(BackupDamaged, match="changed or cut short"):
            decrypted(bytes(flipped), key)
    with pytest.raises(BackupDamaged):
        decrypted(stored + b"x", key)
    with pytest.raises(BackupDamaged):
        decrypted(stored, x25519.Identity.generate())


# -- the file of secret keys ------------------------------------------------------------------------------------------


def test_a_file_of_several_keys_is_read(tmp_path: Path, key: x25519.Identity) -> None:
    other = x25519.Identity.generate()
    file = tmp_path / "keys.txt"
    file.write_text(f"# created: today\n# public key: x\n{key}\n\n{other}\r\n")
    read = Identity.read(file, where="w")
    assert read.public == (str(key.to_public()), str(other.to_public()))
    assert read.fits(["age1x", str(other.to_public())])
    assert not read.fits(["age1x"])


def test_an_identity_never_shows_itself(key: x25519.Identity) -> None:
    one = identity(key)
    assert f"{one} {one!r}" == "Identity(1 keys) Identity(1 keys)"
    with pytest.raises(TypeError):
        pickle.dumps(one)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no age secret key"),
        (b"# only words\n", "holds no age secret key"),
        (b"# a\nAGE-SECRET-KEY-1GEHEIM\n", "line 2 of .* is not an age secret key"),
        (b"\xff\xfegeheim\n", "line 1 of .* is not an age secret key"),
        (b"age-encryption.org/v1\n-> scrypt geheim\n", "is itself encrypted with a passphrase"),
        (None, r"cannot be read: .* \(No such file or directory\)"),
    ],
)
def test_a_file_that_holds_no_key_is_named_and_not_quoted(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "keys.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        Identity.read(file, where="lockstep.toml:9")
    assert str(caught.value).startswith("lockstep.toml:9: ")
    assert "geheim" not in str(caught.value).lower()


# -- recipients -------------------------------------------------------------------------------------------------------


def test_recipients_are_checked_and_given_once_each(key: x25519.Identity) -> None:
    public = str(key.to_public())
    assert parse_recipients([f" {public}", public.upper(), public], where="w") == (public,)


@pytest.mark.parametrize("bad", ["", "age1", "ssh-ed25519 AAAA", "age1" + "q" * 58])
def test_a_bad_recipient_is_named_with_its_line(bad: str, key: x25519.Identity) -> None:
    with pytest.raises(ConfigError, match=r"^lockstep.toml:7: encrypt_to: key 2 is not an age public key"):
        parse_recipients([str(key.to_public()), bad], where="lockstep.toml:7")


def test_a_secret_key_in_place_of_a_public_one_is_not_quoted(key: x25519.Identity) -> None:
    with pytest.raises(ConfigError, match="key 1 is a secret key") as caught:
        parse_recipients([str(key)], where="lockstep.toml:7")
    assert str(key)[-20:] not in f"{caught.value} {caught.value.hint}"


def test_encrypting_needs_no_more_memory_for_more_bytes(key: x25519.Identity) -> None:
    # VmHWM, because getrusage also tells of the process that started this one.
    script = (
        "from pathlib import Path\nfrom lockstep.storage.encryption import encrypt\n"
        "encrypt((bytes(1 << 20) for _ in range(160)), lambda chunk: None, "
        f"[{str(key.to_public())!r}])\nprint(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60 * 1024  # KiB
