"""The rows that messages write: literals are what psycopg makes of the values."""

from __future__ import annotations

import pytest
from psycopg import sql

from lockstep.core.address import Address
from lockstep.postgres.connection import Target
from lockstep.postgres.entries import RunInfo, Scribe


@pytest.mark.parametrize(
    "value", ["", "a", "it's", "''", "C:\\x", "\\'", "ünï", "a\nb", "$$", 0, 7, -7, 2**62, True, False, None]
)
def test_a_literal_is_what_psycopg_makes_of_it(value: object) -> None:
    scribe = Scribe(target=Target(environment="dev", address=Address()), run=RunInfo(run_id="r"), context=None)  # type: ignore[arg-type]
    assert scribe._literal(value) == sql.Literal(value).as_string(None)
