"""The floor: what a bare psycopg script needs for the same job. A process of its own, called like a tool.

It hashes every file, reads its table once, and sends one message per pending file. It checks nothing else.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import psycopg
from psycopg import sql


def main(word: str) -> None:
    """`apply` or `status` for the files in ./migrations and the database that DATABASE_URL names."""
    if word == "version":
        return
    files: dict[str, tuple[str, str]] = {}  # name -> (text, SHA-256)
    for entry in sorted(os.scandir("migrations"), key=lambda e: e.name):
        raw = Path(entry.path).read_bytes()
        files[entry.name] = (raw.decode(), hashlib.sha256(raw).hexdigest())
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        try:
            applied: dict[str, str] = dict(connection.execute("SELECT name, checksum FROM floor_migrations").fetchall())
        except psycopg.errors.UndefinedTable:
            connection.execute("CREATE TABLE floor_migrations (name text PRIMARY KEY, checksum text NOT NULL)")
            applied = {}
        changed = [name for name, checksum in applied.items() if files[name][1] != checksum]
        if changed:
            raise SystemExit(f"changed: {', '.join(changed)}")
        if word == "status":
            sys.stdout.write("".join(f"{name} {'applied' if name in applied else 'pending'}\n" for name in files))
            return
        for name, (text, checksum) in files.items():
            if name in applied:
                continue
            row = sql.SQL("INSERT INTO floor_migrations VALUES ({}, {})").format(name, checksum).as_string(connection)
            connection.execute(f"BEGIN;\n{text}\n;{row};COMMIT".encode())


main(sys.argv[1])
