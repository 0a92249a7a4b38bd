-- The ledger and its audit log. Runs in one transaction and may run again: it also upgrades an older table in place.
-- The first three columns are what users' history queries have always read; they never change their names.

CREATE TABLE IF NOT EXISTS {schema}.schema_migrations (
    migration_name text NOT NULL,
    checksum       text,
    applied_at     timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE {schema}.schema_migrations
    ADD COLUMN IF NOT EXISTS version           bigint,
    ADD COLUMN IF NOT EXISTS kind              text NOT NULL DEFAULT 'versioned',
    ADD COLUMN IF NOT EXISTS state             text NOT NULL DEFAULT 'applied',
    ADD COLUMN IF NOT EXISTS content_digest    text,
    ADD COLUMN IF NOT EXISTS execution_time_ms bigint,
    ADD COLUMN IF NOT EXISTS applied_by        text,
    ADD COLUMN IF NOT EXISTS run_id            text,
    ADD COLUMN IF NOT EXISTS tool_version      text,
    ADD COLUMN IF NOT EXISTS statements_done   integer,
    ADD COLUMN IF NOT EXISTS statements_total  integer,
    ADD COLUMN IF NOT EXISTS progress          jsonb,
    ADD COLUMN IF NOT EXISTS down_script       text,
    ADD COLUMN IF NOT EXISTS down_checksum     text,
    ADD COLUMN IF NOT EXISTS fingerprint_after text,
    ADD COLUMN IF NOT EXISTS verified          boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS revert_proof      jsonb;

CREATE TABLE IF NOT EXISTS {schema}.schema_migrations_log (
    id               bigint NOT NULL,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    event            text NOT NULL,
    actor            text NOT NULL DEFAULT session_user,
    host             text,
    run_id           text,
    orchestrator_url text,
    migration_name   text,
    version          bigint,
    duration_ms      bigint,
    details          jsonb NOT NULL DEFAULT jsonb_build_object(),
    previous_hash    text NOT NULL,
    hash             text NOT NULL,
    CONSTRAINT schema_migrations_log_pkey PRIMARY KEY (id),
    CONSTRAINT schema_migrations_log_no_fork UNIQUE (previous_hash)
);
CREATE INDEX IF NOT EXISTS schema_migrations_log_version ON {schema}.schema_migrations_log (version, id)
    WHERE version IS NOT NULL;

-- What the schema was after each run, so that what others change can be seen. `objects` is compressed JSON, kept for the
-- newest rows only; `seen` where the schema as it was is not the one that was intended.
CREATE TABLE IF NOT EXISTS {schema}.schema_migrations_states (
    id              bigint NOT NULL,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    event           text NOT NULL,
    actor           text NOT NULL DEFAULT session_user,
    run_id          text,
    version         bigint,
    entries         text NOT NULL,
    server_major    integer NOT NULL,
    schemas         text[] NOT NULL,
    digest          text NOT NULL,
    portable_digest text NOT NULL,
    token           text NOT NULL,
    migrations      jsonb NOT NULL DEFAULT '[]',
    changes         bytea,
    objects         bytea,
    seen            bytea,
    CONSTRAINT schema_migrations_states_pkey PRIMARY KEY (id)
);

-- What a row's hash covers. jsonb keeps the parts apart; times go in as microseconds, since text depends on settings.
CREATE OR REPLACE FUNCTION {schema}.schema_migrations_log_hash(entry {schema}.schema_migrations_log) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN encode(sha256(convert_to(jsonb_build_array(
        entry.previous_hash, entry.id, (extract(epoch FROM entry.at) * 1000000)::bigint, entry.event, entry.actor,
        entry.host, entry.run_id, entry.orchestrator_url, entry.migration_name, entry.version, entry.duration_ms,
        entry.details)::text, 'UTF8')), 'hex');

-- Lock first, then read the head: under READ COMMITTED that is what keeps two writers from forking the chain.
CREATE OR REPLACE FUNCTION {schema}.schema_migrations_log_chain() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock({audit_key});
    -- Who is not its owner writes under their own name, whatever they were granted: an answer is worth who gave it.
    IF NOT pg_has_role(session_user, (SELECT c.relowner FROM pg_class c WHERE c.oid = TG_RELID), 'MEMBER') THEN
        NEW.actor := session_user;
        NEW.at := clock_timestamp();
    END IF;
    -- Numbers without gaps, unlike a sequence's: a row that is missing shows.
    SELECT l.id + 1, l.hash INTO NEW.id, NEW.previous_hash FROM {schema}.schema_migrations_log l ORDER BY l.id DESC LIMIT 1;
    IF NOT FOUND THEN
        NEW.id := 1;
        NEW.previous_hash := '';
    END IF;
    -- The function above says what is covered; written out here it is planned once a session, not once a row.
    NEW.hash := encode(sha256(convert_to(jsonb_build_array(
        NEW.previous_hash, NEW.id, (extract(epoch FROM NEW.at) * 1000000)::bigint, NEW.event, NEW.actor,
        NEW.host, NEW.run_id, NEW.orchestrator_url, NEW.migration_name, NEW.version, NEW.duration_ms,
        NEW.details)::text, 'UTF8')), 'hex');
    RETURN NEW;
END
$function$;

CREATE OR REPLACE FUNCTION {schema}.schema_migrations_log_refuse() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$function$;

-- A file that writes to the ledger is a mistake (a dump of data, an older tool's script): Lockstep records each file by
-- itself. Sessions that are not Lockstep's are let through: whoever works by hand is to know what they do.
CREATE OR REPLACE FUNCTION {schema}.schema_migrations_guard() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF starts_with(current_setting('application_name'), 'lockstep/')
       AND current_setting('lockstep_session.writer', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'the file writes to the ledger, which belongs to Lockstep alone: it records each file by itself'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE TRIGGER schema_migrations_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON {schema}.schema_migrations FOR EACH STATEMENT EXECUTE FUNCTION {schema}.schema_migrations_guard();
CREATE OR REPLACE TRIGGER schema_migrations_states_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON {schema}.schema_migrations_states FOR EACH STATEMENT EXECUTE FUNCTION {schema}.schema_migrations_guard();
CREATE OR REPLACE TRIGGER schema_migrations_log_chain BEFORE INSERT ON {schema}.schema_migrations_log
    FOR EACH ROW EXECUTE FUNCTION {schema}.schema_migrations_log_chain();
CREATE OR REPLACE TRIGGER schema_migrations_log_keep BEFORE UPDATE OR DELETE ON {schema}.schema_migrations_log
    FOR EACH ROW EXECUTE FUNCTION {schema}.schema_migrations_log_refuse();
CREATE OR REPLACE TRIGGER schema_migrations_log_keep_all BEFORE TRUNCATE ON {schema}.schema_migrations_log
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.schema_migrations_log_refuse();
-- A session in replica mode skips ordinary triggers. These fire always.
ALTER TABLE {schema}.schema_migrations ENABLE ALWAYS TRIGGER schema_migrations_guard;
ALTER TABLE {schema}.schema_migrations_states ENABLE ALWAYS TRIGGER schema_migrations_states_guard;
ALTER TABLE {schema}.schema_migrations_log
    ENABLE ALWAYS TRIGGER schema_migrations_log_chain,
    ENABLE ALWAYS TRIGGER schema_migrations_log_keep,
    ENABLE ALWAYS TRIGGER schema_migrations_log_keep_all;

ALTER TABLE {schema}.schema_migrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.schema_migrations_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE {schema}.schema_migrations_states ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON {schema}.schema_migrations, {schema}.schema_migrations_log, {schema}.schema_migrations_states FROM PUBLIC;
REVOKE ALL ON FUNCTION {schema}.schema_migrations_log_hash({schema}.schema_migrations_log),
    {schema}.schema_migrations_log_chain(), {schema}.schema_migrations_log_refuse(),
    {schema}.schema_migrations_guard() FROM PUBLIC;
COMMENT ON TABLE {schema}.schema_migrations IS 'Lockstep: which migrations this database has. Do not edit by hand: lockstep repair.';
COMMENT ON TABLE {schema}.schema_migrations_log IS 'Lockstep: audit log, append-only, each row chained to the one before by its hash.';
COMMENT ON TABLE {schema}.schema_migrations_states IS 'Lockstep: the schema after each run, to tell what others changed. Do not edit by hand.';
