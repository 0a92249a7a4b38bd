INSERT INTO {schema}.schema_migrations_states (id, event, run_id, version, entries, server_major, schemas, digest,
                                               portable_digest, token, migrations, changes, objects, seen)
SELECT coalesce((SELECT max(id) FROM {schema}.schema_migrations_states), 0) + 1, %s, %s,
       (SELECT max(version) FROM {schema}.schema_migrations WHERE state = 'applied'), {entries},
       %s, %s, %s, %s, %s, %s, %s, %s, %s
