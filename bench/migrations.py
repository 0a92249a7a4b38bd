"""The migrations that every tool applies, from 1: a table each, or one-line changes as teams write them between tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Text = Callable[[int], str]  # number -> SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the migrations of a workload are like."""

    name: str
    up: Text
    down: Text | None = None  # without: no tool gets a way back


def table(number: int) -> str:
    """A small table with its key and an index."""
    name = f"public.item_{number:05d}"
    return (
        f"CREATE TABLE {name} (\n"
        "    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n"
        "    name text NOT NULL,\n"
        "    created_at timestamptz NOT NULL DEFAULT now()\n"
        ");\n"
        f"CREATE INDEX item_{number:05d}_name_idx ON {name} (name);\n"
    )


def no_table(number: int) -> str:
    """The way back from `table`."""
    return f"DROP TABLE public.item_{number:05d};\n"


def change(number: int) -> str:
    """Four changes of a line or two to each table, and the table before them."""
    group, part = divmod(number - 1, 5)
    name = f"public.thing_{group:05d}"
    return (
        f"CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);\n",
        f"-- What a customer pays for it.\nALTER TABLE {name} ADD COLUMN price numeric(12, 2) NOT NULL DEFAULT 0;\n",
        f"CREATE INDEX thing_{group:05d}_name_idx ON {name} (name);\n",
        f"INSERT INTO {name} (name, price)\nVALUES ('first', 1.50), ('second', 2.00), ('it''s the third', 3.25);\n",
        f"ALTER TABLE {name} ADD CONSTRAINT price_is_positive CHECK (price >= 0);\n"
        f"COMMENT ON TABLE {name} IS 'one of many';\n",
    )[part]


TABLES = Kind(name="tables", up=table)
TABLES_BOTH_WAYS = Kind(name="tables-both-ways", up=table, down=no_table)
CHANGES = Kind(name="changes", up=change)
