"""Kinds of objects that a fingerprint knows, as people write them: the configuration is checked with these words."""

from __future__ import annotations

#: Every kind of object that a fingerprint knows, as people write it.
KINDS = (
    "schema", "table", "column", "constraint", "not null constraint", "index", "sequence", "view", "materialized view",
    "function", "procedure", "aggregate", "trigger", "rule", "policy", "event trigger", "type", "domain", "collation",
    "conversion", "statistics", "grant", "default privileges", "comment", "publication", "subscription", "extension",
    "extension version", "foreign table", "foreign server", "foreign data wrapper", "operator", "operator family",
    "operator class", "cast", "transform", "language", "access method", "text search configuration", "text search dictionary",
    "text search parser", "text search template",
)  # fmt: skip

ABSENT_ROLES = "grant to absent role"

#: What two environments may differ in, unless [drift] parity_ignores says otherwise: kind -> why.
MAY_DIFFER = {
    "publication": "replication is set up per environment",
    "subscription": "replication is set up per environment",
    "event trigger": "often the service's own (Supabase, RDS)",
    "extension version": "comes with the server's packages",
    ABSENT_ROLES: "roles are made per environment",
}
