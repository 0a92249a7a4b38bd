"""The migrations that every tool applies: small ones, as teams write them, five to a table."""

from __future__ import annotations


def migration(number: int) -> str:
    """Return the SQL of one migration, from 1."""
    table, part = divmod(number - 1, 5)
    name = f"public.item_{table:05d}"
    return (
        f"CREATE TABLE {name} (\n"
        "    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n"
        "    name text NOT NULL,\n"
        "    created_at timestamptz NOT NULL DEFAULT now()\n"
        ");\n",
        f"-- What a customer pays for it.\nALTER TABLE {name} ADD COLUMN price numeric(12, 2) NOT NULL DEFAULT 0;\n",
        f"CREATE INDEX item_{table:05d}_name_idx ON {name} (name);\n",
        f"INSERT INTO {name} (name, price)\nVALUES ('first', 1.50), ('second', 2.00), ('it''s the third', 3.25);\n",
        f"ALTER TABLE {name} ADD CONSTRAINT price_is_positive CHECK (price >= 0);\n"
        f"COMMENT ON TABLE {name} IS 'one of many';\n",
    )[part]
