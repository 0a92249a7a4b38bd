"""What a refused pooler's user is told to use instead."""

from __future__ import annotations

import pytest

from lockstep.core.address import parse_address
from lockstep.postgres.poolers import session_mode_hint


@pytest.mark.parametrize(
    "url",
    ["postgresql://postgres.abc:x@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
     "postgresql://postgres:x@db.abc.supabase.co:6543/postgres",
     "postgresql://postgres.abc:x@aws-0-eu-central-1.pooler.supabase.com/postgres"],
)  # fmt: skip
def test_supabases_pooler_is_known_by_its_address(url: str) -> None:
    address = parse_address(url)
    hint = session_mode_hint(address)
    assert f"the same host {address.host}, port 5432" in hint
    assert "often has IPv6 only" in hint


def test_any_other_pooler_has_a_session_mode_too() -> None:
    hint = session_mode_hint(parse_address("postgresql://u:s3cret@pool.example:5433/app"))
    assert hint == "use the server's own address, or the pooler's session mode (pool_mode = session)"
