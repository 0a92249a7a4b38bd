"""What the tracer puts into a copy is met by no plan, and is in no fingerprint and no change set."""

from __future__ import annotations

import psycopg
import pytest

from lockstep.postgres.tracing import install_reasons
from tests.integration.rehearsal.stages import staged, tried
from tests.project import Project

GRANTS = """
DO $$ DECLARE s text; BEGIN
    FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO reader_{0}', s);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO reader_{0}', s);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO reader_{0}', s);
    END LOOP;
    FOR s IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO CURRENT_USER', s);
    END LOOP;
END $$;
"""


@pytest.mark.slow
def test_a_loop_over_all_schemas_and_functions_does_not_meet_it(prod: Project) -> None:
    name = prod.query("SELECT current_database()", "prod")[0][0]
    prod.query(
        f"""
        CREATE ROLE app_{name}; CREATE ROLE reader_{name}; GRANT CREATE, CONNECT ON DATABASE {name} TO app_{name};
        ALTER SCHEMA public OWNER TO app_{name}; CREATE TABLE t (id int); ALTER TABLE t OWNER TO app_{name};
        DO $$ DECLARE s text; BEGIN
            FOR s IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
                EXECUTE format('ALTER TABLE %s OWNER TO app_{name}', s);
            END LOOP;
            FOR s IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace LOOP
                EXECUTE format('ALTER FUNCTION %s OWNER TO app_{name}', s);
            END LOOP;
        END $$
        """,
        "prod",
    )
    prod.configure(prod=f'protected = true\nrole = "app_{name}"')
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-grants.sql", GRANTS.replace("{0}", name))
    prod.write("002-rewrite.sql", "ALTER TABLE t ALTER id TYPE bigint;")
    found = prod.run("rehearse", "prod", "--fresh", "--json").document["rehearsal"]
    assert found["verdict"]["outcome"] == "passed", found["verdict"]
    assert not [one for one in found["changes"] if "lockstep_rehearsal" in str(one)]
    reasons = [one["reason"] for file in found["files"] for part in file["statements"] for one in part["rewrites"]]
    assert "a column's values are converted" in reasons


def test_it_is_in_no_schema_of_the_copy(prod: Project) -> None:
    assert prod.run("baseline", "prod", "--version", "none").code == 0
    prod.write("001-a.sql", "CREATE TABLE a (i int);")
    with staged(prod) as stage:
        clone = stage.clone()
        with psycopg.connect(clone.admin, autocommit=True) as copy:
            assert install_reasons(copy)
            assert copy.execute("SELECT count(*) FROM pg_event_trigger").fetchone() == (1,)
            assert copy.execute("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'lockstep'").fetchone() == (0,)
        assert tried(prod, clone).error is None
