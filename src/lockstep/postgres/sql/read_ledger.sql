BEGIN READ ONLY;
SET LOCAL row_security = {row_security};
SELECT migration_name, version, kind, state, checksum, content_digest, applied_at, execution_time_ms, applied_by, run_id,
       verified, down_checksum, statements_done, statements_total, progress, revert_proof
  FROM {schema}.schema_migrations
 ORDER BY version NULLS LAST, migration_name;
-- What is held: reverted, or put back by a repair, and nothing of it applied or repaired since; what was taken back does
-- not count, nor does what took it back. Such events are few, so they are looked for first.
SELECT r.version, r.migration_name, r.details->>'checksum', r.details->>'content_digest', r.at, r.details->>'reason'
  FROM {schema}.schema_migrations_log r
 WHERE r.version IS NOT NULL AND r.event IN ('apply', 'repair', 'revert') AND (r.event = 'revert' OR r.details ? 'held')
   AND NOT EXISTS (SELECT FROM {schema}.schema_migrations m WHERE m.version = r.version)
   AND NOT EXISTS (SELECT FROM {schema}.schema_migrations_log l
                    WHERE l.version = r.version AND l.id > r.id AND l.event IN ('apply', 'repair', 'revert')
                      AND (NOT l.details ? 'undoes' OR l.details ? 'held')
                      AND NOT EXISTS (SELECT FROM {schema}.schema_migrations_log u
                                       WHERE u.id > l.id AND u.details->>'undoes' = l.id::text))
 ORDER BY r.version;
-- After a prune the salt stands in the anchor, also when a later `init` is still there. A log that begins with row 1 is
-- not searched for one.
SELECT coalesce((SELECT details->>'salt' FROM {schema}.schema_migrations_log
                  WHERE event = 'init' AND details ? 'salt'
                    AND (SELECT min(id) FROM {schema}.schema_migrations_log) = 1 ORDER BY id LIMIT 1),
                (SELECT details->>'salt' FROM {schema}.schema_migrations_log
                  WHERE event = 'prune' AND details ? 'salt' ORDER BY id DESC LIMIT 1), ''),
       CASE WHEN EXISTS (SELECT FROM {schema}.schema_migrations) THEN 0
            ELSE (SELECT count(*) FROM pg_catalog.pg_class c
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname = ANY ({schemas}::text[])
                     AND NOT (n.nspname = {schema_name} AND c.relname IN ('schema_migrations', 'schema_migrations_log',
                                                                                       'schema_migrations_states'))
                     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                        AND d.objid = c.oid AND d.deptype = 'e'))
       END;
COMMIT;
