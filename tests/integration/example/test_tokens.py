"""Stored API keys: unreadable without the key, and any change to what is stored is an error, never garbage."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tests.integration.example.example_schema import KEY, add_user, value

TOKEN = "sk-ant-Ünïcödé-0123456789"
STORE = "SELECT public.set_user_token(%s, %s, %s, %s)"
READ = "SELECT public.get_user_token(%s, %s, %s)"
COLUMNS = ("iv", "ciphertext", "mac")


@pytest.fixture
def alice(owner: psycopg.Connection) -> str:
    return add_user(owner, "alice@example.com")[0]


@pytest.fixture
def bob(owner: psycopg.Connection) -> str:
    return add_user(owner, "bob@example.com")[0]


def stored(owner: psycopg.Connection, user: str, provider: str = "github") -> dict[str, bytes]:
    row = owner.execute(
        "SELECT iv, ciphertext, mac FROM public.user_tokens WHERE user_id = %s AND provider = %s", [user, provider]
    ).fetchone()
    assert row is not None
    return dict(zip(COLUMNS, row, strict=True))


@pytest.mark.parametrize("provider", ["github", "openai", "anthropic", "gemini"])
def test_a_token_comes_back_as_it_went_in(provider: str, alice: str, app: psycopg.Connection) -> None:
    for token in (TOKEN, "x", "y" * 15, "y" * 16, "z" * 5000):
        app.execute(STORE, [alice, provider, token, KEY])
        assert value(app, READ, alice, provider, KEY) == token


def test_no_token_stored_is_null_and_not_an_error(alice: str, app: psycopg.Connection) -> None:
    assert value(app, READ, alice, "github", KEY) is None


def test_storing_again_replaces_with_a_fresh_iv(alice: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    seen = []
    for _ in range(5):
        app.execute(STORE, [alice, "github", TOKEN, KEY])
        seen.append(stored(owner, alice))
    for column in COLUMNS:
        assert len({row[column] for row in seen}) == 5
    assert value(owner, "SELECT count(*) FROM public.user_tokens") == 1


def test_the_scheme_is_the_documented_one(alice: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    app.execute(STORE, [alice, "openai", TOKEN, KEY])
    row = stored(owner, alice, "openai")
    encryption_key, mac_key = (
        hmac.digest(KEY, b"user_tokens/v1/" + purpose, hashlib.sha256) for purpose in (b"encrypt", b"mac")
    )
    signed = (
        b"\x01"
        + (1).to_bytes(8, "big")
        + bytes.fromhex(alice.replace("-", ""))
        + (6).to_bytes(4, "big")
        + b"openai"
        + (16).to_bytes(4, "big")
        + row["iv"]
        + row["ciphertext"]
    )
    assert row["mac"] == hmac.digest(mac_key, signed, hashlib.sha256)
    clear = value(
        owner, "SELECT public.decrypt_iv(%s, %s, %s, 'aes-cbc/pad:pkcs')", row["ciphertext"], encryption_key, row["iv"]
    )
    assert clear == TOKEN.encode()


def test_every_wrong_key_is_an_error(alice: str, app: psycopg.Connection) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    # CBC alone would let about one wrong key in 256 pass with garbage: hence many.
    for number in range(600):
        wrong = hashlib.sha256(str(number).encode()).digest()
        with pytest.raises(errors.DataException, match="cannot be opened") as caught:
            app.execute(READ, [alice, "github", wrong])
        assert caught.value.sqlstate == "22000"


def test_one_wrong_bit_in_the_key_is_an_error(alice: str, app: psycopg.Connection) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    for place in range(32):
        wrong = bytearray(KEY)
        wrong[place] ^= 1
        with pytest.raises(errors.DataException, match="cannot be opened"):
            app.execute(READ, [alice, "github", bytes(wrong)])


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_in_any_byte_is_an_error(
    column: str, alice: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    good = stored(owner, alice)[column]
    update = f"UPDATE public.user_tokens SET {column} = %s".encode()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x80
        owner.execute(update, [bytes(bad)])
        with pytest.raises(errors.DataException, match="cannot be opened") as caught:
            app.execute(READ, [alice, "github", KEY])
        assert TOKEN not in str(caught.value)
    owner.execute(update, [good])
    assert value(app, READ, alice, "github", KEY) == TOKEN


def test_a_shortened_or_lengthened_ciphertext_is_an_error(
    alice: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    app.execute(STORE, [alice, "github", TOKEN * 3, KEY])
    good = stored(owner, alice)["ciphertext"]
    for bad in (good[:-16], good + good[-16:], good[16:]):
        owner.execute("UPDATE public.user_tokens SET ciphertext = %s", [bad])
        with pytest.raises(errors.DataException, match="cannot be opened"):
            app.execute(READ, [alice, "github", KEY])


def test_a_row_moved_to_another_user_or_provider_is_refused(
    alice: str, bob: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    owner.execute("UPDATE public.user_tokens SET user_id = %s", [bob])
    with pytest.raises(errors.DataException, match="cannot be opened"):
        app.execute(READ, [bob, "github", KEY])
    owner.execute("UPDATE public.user_tokens SET user_id = %s, provider = 'openai'", [alice])
    with pytest.raises(errors.DataException, match="cannot be opened"):
        app.execute(READ, [alice, "openai", KEY])
    owner.execute("UPDATE public.user_tokens SET provider = 'github'")
    assert value(app, READ, alice, "github", KEY) == TOKEN


def test_what_was_encrypted_for_another_user_is_refused(
    alice: str, bob: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    app.execute(STORE, [bob, "github", "bob's own", KEY])
    owner.execute(
        "UPDATE public.user_tokens AS b SET iv = a.iv, ciphertext = a.ciphertext, mac = a.mac"
        " FROM public.user_tokens AS a WHERE a.user_id = %s AND b.user_id = %s",
        [alice, bob],
    )
    with pytest.raises(errors.DataException, match="cannot be opened"):
        app.execute(READ, [bob, "github", KEY])


def test_the_key_version_is_signed_and_named_in_the_error(
    alice: str, app: psycopg.Connection, owner: psycopg.Connection
) -> None:
    new_key = hashlib.sha256(b"new").digest()
    app.execute("SELECT public.set_user_token(%s, 'github', %s, %s, 2)", [alice, TOKEN, new_key])
    assert value(app, "SELECT key_version FROM public.user_tokens") == 2
    assert value(app, READ, alice, "github", new_key) == TOKEN
    with pytest.raises(errors.DataException) as caught:
        app.execute(READ, [alice, "github", KEY])
    assert caught.value.diag.message_hint == "It was stored with key version 2."
    owner.execute("UPDATE public.user_tokens SET key_version = 1")
    with pytest.raises(errors.DataException, match="cannot be opened"):
        app.execute(READ, [alice, "github", new_key])


def test_a_key_that_is_not_32_bytes_is_refused(alice: str, app: psycopg.Connection) -> None:
    for key in (b"", KEY[:31], KEY + b"x", KEY[:16], None):
        with pytest.raises(errors.InvalidParameterValue, match="32 random bytes"):
            app.execute(STORE, [alice, "github", TOKEN, key])
        with pytest.raises(errors.InvalidParameterValue, match="32 random bytes"):
            app.execute(READ, [alice, "github", key])


def test_an_empty_token_is_refused(alice: str, app: psycopg.Connection) -> None:
    for token in ("", None):
        with pytest.raises(errors.InvalidParameterValue, match="empty"):
            app.execute(STORE, [alice, "github", token, KEY])


def test_an_unknown_provider_or_user_is_refused(alice: str, app: psycopg.Connection) -> None:
    with pytest.raises(errors.CheckViolation):
        app.execute(STORE, [alice, "GitHub", TOKEN, KEY])
    with pytest.raises(errors.ForeignKeyViolation):
        app.execute(STORE, ["00000000-0000-0000-0000-000000000000", "github", TOKEN, KEY])


@pytest.mark.parametrize(
    "attempt",
    [
        "SELECT ciphertext FROM public.user_tokens",
        "SELECT iv FROM public.user_tokens",
        "SELECT mac FROM public.user_tokens",
        "SELECT * FROM public.user_tokens",
        "UPDATE public.user_tokens SET key_version = 9",
        "INSERT INTO public.user_tokens (user_id, provider) VALUES (gen_random_uuid(), 'github')",
        "COPY public.user_tokens TO STDOUT",
        "SELECT public.token_subkey('\\x00', 'mac')",
        "SELECT public.token_subkey('\\x00', 'encrypt')",
        "SELECT public.token_mac('\\x00', 1, gen_random_uuid(), 'github', '\\x00', '\\x00')",
        "SELECT public.token_decrypt('\\x00', '\\x00', '\\x00')",
        "SELECT public.token_encrypt('x', '\\x00', '\\x00')",
    ],
)
def test_the_application_reaches_tokens_only_with_the_key(attempt: str, app: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute(attempt.encode())


def test_the_application_can_list_and_forget_tokens(alice: str, app: psycopg.Connection) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    assert app.execute("SELECT provider, key_version FROM public.user_tokens").fetchall() == [("github", 1)]
    app.execute("DELETE FROM public.user_tokens WHERE user_id = %s AND provider = 'github'", [alice])
    assert value(app, READ, alice, "github", KEY) is None


def test_neither_key_nor_token_stands_anywhere_in_a_dump(
    alice: str, app: psycopg.Connection, shop: str, pg_bin: Path
) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    value(app, READ, alice, "github", KEY)
    dumped = subprocess.run([str(pg_bin / "pg_dump"), shop], check=True, capture_output=True).stdout
    assert alice.encode() in dumped
    secrets = [KEY, TOKEN.encode()]
    secrets += [hmac.digest(KEY, b"user_tokens/v1/" + purpose, hashlib.sha256) for purpose in (b"encrypt", b"mac")]
    for secret in secrets:
        assert secret not in dumped
        assert secret.hex().encode() not in dumped


def test_deleting_the_user_deletes_the_tokens(alice: str, app: psycopg.Connection, owner: psycopg.Connection) -> None:
    app.execute(STORE, [alice, "github", TOKEN, KEY])
    app.execute("DELETE FROM public.users WHERE id = %s", [alice])
    assert value(owner, "SELECT count(*) FROM public.user_tokens") == 0
