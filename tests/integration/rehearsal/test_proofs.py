"""Trial B: each migration's down on a clone, compared to the letter, counted, and the up again."""

from __future__ import annotations

import pytest

from lockstep.core.rehearsal.proof import RevertProof
from tests.integration.rehearsal.proving import proofs
from tests.project import Project

BASE = """
CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, total numeric, state text DEFAULT 'new');
INSERT INTO orders SELECT n, 'customer ' || n, n * 1.5, 'new' FROM generate_series(1, 100) n;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER orders_touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
CREATE INDEX orders_customer ON orders (customer);
COMMENT ON TABLE orders IS 'what people bought';
"""


@pytest.fixture
def shop(prod: Project) -> Project:
    """prod with a table of a hundred orders that Lockstep did not make."""
    prod.query(BASE, "prod")
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    return prod


def pair(project: Project, version: int, up: str, down: str | None, head: str = "") -> None:
    project.write(f"{version:03d}-m.sql", head + up)
    if down is not None:
        project.write(f"{version:03d}-m.down.sql", down)


def shown(found: dict[int, RevertProof]) -> dict[int, str]:
    return {version: one.text for version, one in found.items()}


def test_a_down_that_forgets_something_is_not_proven_and_the_object_is_named(shop: Project) -> None:
    shop.query("CREATE ROLE reader_of_orders; GRANT SELECT ON orders TO reader_of_orders", "prod")
    forgotten = {
        1: ("CREATE INDEX orders_total ON orders (total);", "SELECT 1;"),
        2: ("REVOKE SELECT ON orders FROM reader_of_orders;", "SELECT 1;"),
        3: ("ALTER TABLE orders ALTER state DROP DEFAULT;", "SELECT 1;"),
        4: ("COMMENT ON TABLE orders IS NULL;", "SELECT 1;"),
        5: ("DROP TRIGGER orders_touch ON orders;", "SELECT 1;"),
        6: ("ALTER TABLE orders ADD COLUMN note text;", "ALTER TABLE orders DROP COLUMN note;"),
    }
    for version, (up, down) in forgotten.items():
        pair(shop, version, up, down)
    try:
        found = proofs(shop)
    finally:
        shop.query("DROP OWNED BY reader_of_orders; DROP ROLE reader_of_orders", "prod")
    assert shown(found) == {
        1: "not proven: differs at index public.orders_total is left over",
        2: "not proven: differs at grant to reader_of_orders on table public.orders is gone",
        3: "not proven: differs at column public.orders.state is another one",
        4: "not proven: differs at comment on table public.orders is gone",
        5: "not proven: differs at trigger public.orders.orders_touch is gone",
        6: "proven",
    }
