"""The other peers, each with the settings that serve it best; docs/explanation/performance.md says which, and why.

What cannot be had on a machine is named in the report and left out.
"""

from __future__ import annotations

import os

from bench import layouts
from bench.layouts import named
from bench.places import MODULES, PROGRAMS
from bench.tools import BACK, DBMATE, FLOOR, LOCKSTEP, SQLX, Tool

_ALEMBIC = str(PROGRAMS / "alembic")
_YOYO = str(PROGRAMS / "yoyo")
_YOYO_ON = ("--batch", "--no-config-file", "--database", "{psycopg}")
_DBLIFT = (
    str(PROGRAMS / "dblift"), "--db-url", "{url}", "--db-schema", "public", "--scripts", "migrations", "--no-progress",
)  # fmt: skip
_NODE_PG = ("node", str(MODULES / "node-pg-migrate/bin/node-pg-migrate.js"))
_NODE_PG_SETTINGS = ("--no-single-transaction", "--no-verbose")
_GRAPHILE = ("node", str(MODULES / "graphile-migrate/dist/cli.js"))
_LIQUIBASE = str(MODULES / "liquibase/dist/liquibase/liquibase")
_LIQUIBASE_ON = (
    _LIQUIBASE, "--show-banner=false", "--changelog-file=changelog.yaml", "--url={jdbc}", "--username={user}",
    "--password={password}",
)  # fmt: skip
_CHANGELOG = "databaseChangeLog:\n  - includeAll:\n      path: migrations\n      relativeToChangelogFile: true\n"


def _newest(newest: int) -> str:
    """A pattern of the names that are taken back."""
    return "|".join(named(n) for n in range(newest - BACK + 1, newest + 1))


ALEMBIC = Tool(
    name="alembic",
    version=(_ALEMBIC, "--version"),
    apply=(_ALEMBIC, "upgrade", "head"),
    status=(_ALEMBIC, "current", "--check-heads"),
    revert=lambda _: (_ALEMBIC, "downgrade", f"-{BACK}"),
    count="SELECT version_num::int FROM alembic_version",
    lay_out=layouts.alembic,
    needs=(_ALEMBIC,),
)
YOYO = Tool(
    name="yoyo",
    version=(_YOYO, "--help"),
    release=(
        str(PROGRAMS / "python"),
        "-c",
        "import importlib.metadata as m; print('yoyo', m.version('yoyo-migrations'))",
    ),
    apply=(_YOYO, "apply", *_YOYO_ON, "migrations"),
    status=(_YOYO, "list", *_YOYO_ON, "migrations"),
    revert=lambda newest: (_YOYO, "rollback", *_YOYO_ON, "--all", "--match", _newest(newest), "migrations"),
    count="SELECT count(*) FROM _yoyo_migration",
    lay_out=layouts.in_migrations(layouts.yoyo),
    needs=(_YOYO,),
)
DBLIFT = Tool(
    name="dblift",
    version=(_DBLIFT[0], "--version"),
    apply=(*_DBLIFT, "migrate", "--analysis-mode", "execution"),
    status=(*_DBLIFT, "info"),
    revert=lambda newest: (*_DBLIFT, "undo", "--analysis-mode", "execution", "--target-version", str(newest - BACK)),
    count="SELECT count(*) FILTER (WHERE type = 'SQL') - count(*) FILTER (WHERE type LIKE 'UNDO%') FROM dblift_schema_history",
    lay_out=layouts.in_migrations(layouts.dblift),
    needs=(_DBLIFT[0],),
)
SQITCH = Tool(
    name="sqitch",
    version=("sqitch", "--version"),
    apply=("sqitch", "deploy", "--no-verify", "{sqitch}"),
    status=("sqitch", "status", "{sqitch}"),
    revert=lambda _: ("sqitch", "revert", "-y", "--to", f"@HEAD^{BACK}", "{sqitch}"),
    count="SELECT count(*) FROM sqitch.changes",
    lay_out=layouts.sqitch,
    needs=("sqitch", "psql"),
    remedy="apt-get install sqitch libdbd-pg-perl postgresql-client",
    environment={"SQITCH_USER_CONFIG": os.devnull},
)
NODE_PG_MIGRATE = Tool(
    name="node-pg-migrate",
    version=(*_NODE_PG, "--version"),
    apply=(*_NODE_PG, "up", *_NODE_PG_SETTINGS),
    status=(*_NODE_PG, "up", "--dry-run", *_NODE_PG_SETTINGS),
    revert=lambda _: (*_NODE_PG, "down", str(BACK), *_NODE_PG_SETTINGS),
    count="SELECT count(*) FROM pgmigrations",
    lay_out=layouts.in_migrations(layouts.node_pg_migrate),
    needs=_NODE_PG,
    remedy="make bench installs it where node and npm are",
)
GRAPHILE_MIGRATE = Tool(
    name="graphile-migrate",
    version=(*_GRAPHILE, "--version"),
    apply=(*_GRAPHILE, "migrate"),
    status=(*_GRAPHILE, "status"),
    count="SELECT count(*) FROM graphile_migrate.migrations",
    lay_out=layouts.graphile_migrate,
    needs=_GRAPHILE,
    remedy="make bench installs it where node and npm are",
    environment={"SHADOW_DATABASE_URL": "postgresql://nowhere/shadow"},  # `status` wants one and never connects to it
)
LIQUIBASE = Tool(
    name="liquibase",
    version=(_LIQUIBASE, "--show-banner=false", "--version"),
    apply=(*_LIQUIBASE_ON, "update"),
    status=(*_LIQUIBASE_ON, "status"),
    revert=lambda _: (*_LIQUIBASE_ON, "rollback-count", f"--count={BACK}"),
    count="SELECT count(*) FROM databasechangelog",
    lay_out=layouts.in_migrations(layouts.liquibase, changelog__yaml=_CHANGELOG),
    needs=("java", _LIQUIBASE),
    remedy="make bench installs it where npm is; apt-get install default-jre-headless",
)

TOOLS = (
    LOCKSTEP, FLOOR, DBMATE, SQLX, ALEMBIC, GRAPHILE_MIGRATE, NODE_PG_MIGRATE, YOYO, DBLIFT, SQITCH, LIQUIBASE,
)  # fmt: skip
