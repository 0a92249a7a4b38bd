"""The rows that a plan needs: of what it names, and of all that these lead to; of nothing else."""

from __future__ import annotations

import pytest

from lockstep.core.contents import TableContents
from lockstep.core.rehearsal.closure import Graph, touched_tables, words_of
from lockstep.core.rehearsal.tiers import Tier, estimate_ms, fits, reduced

NAMES = ["users", "orders", "lines", "products", "logs", "events", "events_1", "v_orders", "audits", "settings", "Odd"]
OID = {name: number for number, name in enumerate(NAMES, 1)}

GRAPH = Graph(
    relations={oid: ("public", name) for name, oid in OID.items()},
    tables=frozenset(OID[name] for name in NAMES if name not in {"events", "v_orders"}),
    references=(
        (OID["orders"], OID["users"]),
        (OID["lines"], OID["orders"]),
        (OID["lines"], OID["products"]),
        (OID["logs"], OID["users"]),
    ),
    parts=((OID["events"], OID["events_1"]),),
    reads=((OID["v_orders"], OID["orders"]),),
    triggers=((OID["settings"], 100),),
    others=(("products_name", OID["products"]), ("mood", OID["logs"])),
    functions={
        100: ("note_it", "BEGIN INSERT INTO audits VALUES (1); RETURN NEW; END"),
        101: ("tidy", "DELETE FROM logs"),
    },
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ALTER TABLE orders ADD COLUMN n int", {"orders", "users", "lines", "products"}),
        ("DROP VIEW v_orders", {"orders", "users", "lines", "products"}),
        ("CREATE INDEX ON products (name)", {"products", "lines", "orders", "users"}),
        ("DROP INDEX products_name", {"products", "lines", "orders", "users"}),
        ("ALTER TYPE mood ADD VALUE 'x'", {"logs", "users"}),
        ("INSERT INTO events VALUES (1)", {"events_1"}),
        ("UPDATE Settings SET a = 1", {"settings", "audits"}),
        ("DO $$ BEGIN EXECUTE 'DELETE FROM ' || 'settings'; END $$", {"settings", "audits"}),
        ("CALL tidy()", {"logs", "users"}),
        ('UPDATE "Odd" SET a = 1', {"Odd"}),
        ("UPDATE Odd SET a = 1", set()),
        ("CREATE TABLE brand_new (i int)", set()),
    ],
)
def test_what_a_plan_touches(text: str, expected: set[str]) -> None:
    assert {name for _, name in touched_tables(GRAPH, words_of([text]))} == expected


def table(name: str, size: int) -> TableContents:
    return TableContents(schema="public", name=name, rows=size // 100, exact=False, size=size)


def test_the_tier_follows_the_sizes() -> None:
    tables = [table("small", 10_000_000), table("large", 90_000_000_000)]
    assert fits(1_000_000_000, 600_000) and not fits(100_000_000_000, 600_000)
    small, large = frozenset({("public", "small")}), frozenset({("public", "large")})
    ledger = frozenset({("public", "schema_migrations")})
    found = reduced(tables, small, ledger, size=100_000_000_000, budget_ms=600_000)
    assert (found.tier, found.tables) == (Tier.TOUCHED, small | ledger)
    found = reduced(tables, large, ledger, size=100_000_000_000, budget_ms=600_000)
    assert (found.tier, found.tables) == (Tier.SCHEMA, ledger)
    assert "estimated, not tried: public.large has 900,000,000 rows" in found.notes[1]
    assert estimate_ms(25_000_000) == 1_000
