BEGIN READ ONLY;
SET LOCAL row_security = {row_security};
-- Backups and what proved them: the newest of each kind.
SELECT DISTINCT ON (event, details->>'level', details->>'ok') event, at, details->>'level', details->>'ok', id
  FROM {schema}.schema_migrations_log
 WHERE event IN ('backup', 'verify')
 ORDER BY event, details->>'level', details->>'ok', id DESC;
SELECT at, run_id, details->>'outcome', details->'worst'
  FROM {schema}.schema_migrations_log
 WHERE event = 'rehearse'
 ORDER BY id DESC LIMIT 1;
-- Requests for approval and their answers, newest first: one that is open is among the newest, since nothing of a later
-- run is asked for while it waits.
SELECT id, at, event, actor, run_id, details, pg_catalog.clock_timestamp(), orchestrator_url
  FROM {schema}.schema_migrations_log
 WHERE event = ANY ({events}::text[])
 ORDER BY id DESC LIMIT 200;
SELECT DISTINCT run_id, actor
  FROM {schema}.schema_migrations_log
 WHERE event = {begin}
   AND run_id IN (SELECT run_id FROM {schema}.schema_migrations_log WHERE event = {ask} ORDER BY id DESC LIMIT 100);
COMMIT;
