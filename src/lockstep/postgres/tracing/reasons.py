"""Why a table is written anew, told by the server itself: an event trigger in the copy that only takes notes.

Its function is in pg_catalog, among PostgreSQL's own, where no plan that goes through schemas or functions meets it, and
all of it counts as part of plpgsql: no fingerprint shows it, and no drift. Where it cannot be made a rehearsal goes on
without reasons.
"""

from __future__ import annotations

import psycopg

from lockstep.postgres.tracing.look import REWRITES

NAME = "lockstep_rehearsal"

# No SET clause, every name in full: it runs as whoever runs the statement. ALWAYS: a file may call itself a replica.
_INSTALL = f"""
SET LOCAL allow_system_table_mods = on;
CREATE FUNCTION pg_catalog.{NAME}_note() RETURNS event_trigger LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM pg_catalog.set_config('{REWRITES}', pg_catalog.concat_ws(',',
        nullif(pg_catalog.current_setting('{REWRITES}', true), ''),
        pg_catalog.concat(pg_catalog.pg_event_trigger_table_rewrite_oid(), ':', pg_catalog.pg_event_trigger_table_rewrite_reason())), true);
END $body$;
CREATE EVENT TRIGGER {NAME} ON table_rewrite EXECUTE FUNCTION pg_catalog.{NAME}_note();
ALTER EVENT TRIGGER {NAME} ENABLE ALWAYS;
ALTER EXTENSION plpgsql ADD FUNCTION pg_catalog.{NAME}_note();
ALTER EXTENSION plpgsql ADD EVENT TRIGGER {NAME};
"""

#: The server's bits (src/include/commands/event_trigger.h), in words.
_WORDS = {
    0x01: "LOGGED or UNLOGGED changes",
    0x02: "a new column's value is computed for every row",
    0x04: "a column's values are converted",
    0x08: "another access method",
}


def install_reasons(connection: psycopg.Connection) -> bool:
    """Make the event trigger in a copy, by a superuser's autocommit session. False: it cannot be made there."""
    try:
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = %s)", (NAME,)
        ).fetchone()
        if row is None or not row[0]:
            with connection.transaction():
                connection.execute(_INSTALL.encode())
    except psycopg.Error:
        return False
    return True


def words(bits: int) -> str | None:
    """Return the server's reasons in words."""
    return " and ".join(text for bit, text in _WORDS.items() if bits & bit) or None
