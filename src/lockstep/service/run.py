"""Run ids: one per execution of a plan. They name the session in pg_stat_activity, the ledger rows and the backup."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime


def new_run_id() -> str:
    """Return a short, sortable, unique id: `20260312-100214-3f9a`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
