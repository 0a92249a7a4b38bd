"""Manifests for tests that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lockstep.storage.manifest import Manifest


def manifest(
    *, taken_at: datetime, run_id: str = "r", environment: str = "prod", prefix: str = "team/", **more: Any
) -> Manifest:
    """A manifest whose key is made of its time, run and environment."""
    given: dict[str, Any] = {
        "key": f"{prefix}{environment}/{taken_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{run_id}/database.dump",
        "size": 4,
        "sha256": "ab" * 32,
        "compression": "zstd:1",
        "environment": environment,
        "database": "app",
        "server_version": "17.10",
        "client_version": "17.10",
        "system_identifier": None,
        "taken_at": taken_at,
        "duration_ms": 1,
        "schemas": ("public",),
        "run_id": run_id,
        "tool_version": "0.1.0",
    }
    return Manifest(**{**given, **more})
