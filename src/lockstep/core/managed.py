"""Schemas that a database service keeps for itself inside its customers' databases, and the roles that own them.

A closed list, since what is on it may be left out of a backup. It must not know connections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Supabase: its own dumps and schema comparisons leave these out. Not `extensions` and `supabase_migrations`, which
# belong to the customer's role. RDS and Aurora: extensions of theirs that make a schema. The others likewise.
_MANAGED = (
    (
        re.compile(r"supabase_(?:\w+_)?admin|pgbouncer"),
        frozenset({
            "_analytics", "_realtime", "_supavisor", "auth", "cron", "graphql", "graphql_public", "net", "pgbouncer",
            "pgmq", "pgmq_public", "pgsodium", "pgsodium_masks", "pgtle", "realtime", "storage", "supabase_functions",
            "vault",
        }),
    ),
    (
        re.compile(r"rdsadmin"),
        frozenset({"apg_plan_mgmt", "aws_commons", "aws_lambda", "aws_ml", "aws_s3", "cron", "rds_tools", "rdsadmin"}),
    ),
    (re.compile(r"azuresu"), frozenset({"cron"})),
    (re.compile(r"cloudsqladmin"), frozenset({"cron", "google_vacuum_mgmt"})),
    (re.compile(r"cloud_admin"), frozenset({"cron", "neon", "neon_migration"})),
)  # fmt: skip


def is_managed(schema: str, owner: str) -> bool:
    """Tell whether this is a service's own schema: its name and its owner have to be known ones, together."""
    return any(role.fullmatch(owner) and schema in schemas for role, schemas in _MANAGED)


_SERVICES = (
    ("Supabase", "supabase_admin"),
    ("Amazon RDS", "rdsadmin"),
    ("Azure", "azuresu"),
    ("Google Cloud SQL", "cloudsqladmin"),
    ("Neon", "cloud_admin"),
)


def service_of(roles: Iterable[str]) -> str | None:
    """Return the database service that a server with these roles is of; None: none that is known."""
    known = set(roles)
    return next((service for service, role in _SERVICES if role in known), None)
