"""An audit log that somebody changed and chained anew, as only its owner can."""

#: Computes every hash anew, as the trigger does.
REHASH = """
DO $$ DECLARE r schema_migrations_log; before text := '';
BEGIN
    FOR r IN SELECT * FROM schema_migrations_log ORDER BY id LOOP
        r.previous_hash := before;
        r.hash := schema_migrations_log_hash(r);
        UPDATE schema_migrations_log SET previous_hash = r.previous_hash, hash = r.hash WHERE id = r.id;
        before := r.hash;
    END LOOP;
END $$;
"""
