"""Addresses as users paste them; no error repeats what it could not read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.address import Address, parse_address


@pytest.mark.parametrize(
    ("url", "host", "user", "password", "database"),
    [
        ("postgresql://u:p@ss@host/db", "host", "u", "p@ss", "db"),
        ("postgres://u:p%40ss@host/db", "host", "u", "p@ss", "db"),
        ("postgresql://u:a/b?c#d@host:5433/db?sslmode=require", "host", "u", "a/b?c#d", "db"),
        ("postgresql://u:x:y@host/db", "host", "u", "x:y", "db"),
        ("postgresql://u:p@[::1]:5432/db", "::1", "u", "p", "db"),
        ("postgresql:///db?host=/tmp/s", "/tmp/s", "", "", "db"),
        ("postgresql://u:p@a:1,b:2/db", "a,b", "u", "p", "db"),
        ("host=h user=u password='it''s' dbname=d", "", "", "", ""),
        (r"host=h user=u password='a\'b c' dbname=d", "h", "u", "a'b c", "d"),
        ("postgresql://u:p@h/db?application_name=a@b", "h", "u", "p", "db"),
    ],
)
def test_urls_are_read_as_their_writers_meant(url: str, host: str, user: str, password: str, database: str) -> None:
    if not host:
        with pytest.raises(ValueError, match="neither"):
            parse_address(url)
        return
    found = parse_address(url)
    assert (found.host, found.user, found.password, found.database) == (host, user, password, database)


@given(
    st.text(alphabet=st.characters(exclude_characters="%", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
)
def test_any_password_may_stand_as_it_is(password: str) -> None:
    found = parse_address(f"postgresql://user:{password}@db.example.com:6543/app?sslmode=require")
    assert (found.password, found.host, found.port, found.database) == (password, "db.example.com", "6543", "app")


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/d", "s3cret@host", "postgresql://u:s3cret@[bad/d", "//u:s3cret@h"])
def test_no_error_repeats_the_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_address(url)
    assert "s3cret" not in str(caught.value)


def test_a_secret_is_not_in_what_is_shown() -> None:
    found = parse_address("postgresql://u:s3cret@h:5433/db")
    assert found.shown == "h:5433/db"
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("/run/postgresql", True), ("", True),
     ("127.0.0.1.evil.example", False), ("db", False), ("10.0.0.1", False), ("localhost,db", False)],
)  # fmt: skip
def test_only_what_cannot_leave_the_machine_is_local(host: str, local: bool) -> None:
    assert Address(host=host).is_local is local
