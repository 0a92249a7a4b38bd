"""How a client program of PostgreSQL's is given our own connection's address: by environment, never by argument.

Arguments show to every user of the machine; a child's environment only to the same user.
"""

from __future__ import annotations

import os

import psycopg
from psycopg.conninfo import make_conninfo

from lockstep.errors import UsageError


def environment_of(connection: psycopg.Connection, *, program: str) -> dict[str, str]:
    """Return the child's environment: exactly the parameters of `connection`, and none of the PG* variables around.

    So the program comes to the same server also when a name has several addresses. It holds the password. Raises
    UsageError where a parameter cannot be handed over without showing it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    for option in connection.pgconn.info:
        keyword = option.keyword.decode()
        if keyword == "sslpassword" and option.val:
            raise UsageError(
                f"sslpassword cannot be handed to {program} without showing it to everybody on this machine",
                hint="use a key file without a passphrase, mode 0600",
            )
        # A client encoding would re-code what the program reads; a service or password file could name another server.
        if option.val and option.envvar and keyword not in {"client_encoding", "service", "servicefile", "passfile"}:
            environment[option.envvar.decode()] = option.val.decode()
    info = connection.info
    actual = {"PGHOST": info.host, "PGHOSTADDR": info.hostaddr, "PGPORT": str(info.port), "PGDATABASE": info.dbname}
    actual |= {"PGUSER": info.user, "PGPASSWORD": info.password}
    environment |= actual
    return {name: value for name, value in environment.items() if value}


def network_of(connection: psycopg.Connection) -> str:
    """Return the parameters that have no environment variable and are no secrets, as a connection string."""
    names = {"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
    given = {option.keyword.decode(): option.val for option in connection.pgconn.info if option.val}
    return make_conninfo(**{name: value.decode() for name, value in given.items() if name in names})
