-- After an older table's rows have their versions: the second barrier behind the lock.
CREATE UNIQUE INDEX IF NOT EXISTS schema_migrations_version_once ON {schema}.schema_migrations (version)
    WHERE version IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS schema_migrations_name_once ON {schema}.schema_migrations (migration_name)
    WHERE version IS NULL;
