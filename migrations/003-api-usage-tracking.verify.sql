-- The summary can be trusted: its trigger stands and is enabled.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_trigger
    WHERE tgrelid = 'public.api_usage'::regclass AND tgname = 'api_usage_add_to_monthly' AND tgenabled IN ('O', 'A')
);

-- Only administrators reset usage.
SELECT has_function_privilege('app_admin', 'public.admin_reset_user_usage(uuid, text)', 'EXECUTE')
    AND NOT has_function_privilege('app_user', 'public.admin_reset_user_usage(uuid, text)', 'EXECUTE');

-- Row level security is on; Supabase's API roles, where they exist, can do nothing here.
SELECT bool_and(relrowsecurity)
FROM pg_catalog.pg_class
WHERE oid = ANY (ARRAY['public.api_usage', 'public.api_usage_monthly']::regclass[]);
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS r
    CROSS JOIN unnest(ARRAY['public.api_usage', 'public.api_usage_monthly']::regclass[]) AS t (table_id)
    WHERE r.rolname IN ('anon', 'authenticated', 'service_role')
        AND (
            has_any_column_privilege(r.oid, t.table_id, 'SELECT, INSERT, UPDATE, REFERENCES')
            OR has_table_privilege(r.oid, t.table_id, 'DELETE, TRUNCATE, TRIGGER')
            OR has_function_privilege(r.oid, 'public.get_user_usage_stats(uuid)', 'EXECUTE')
            OR has_function_privilege(r.oid, 'public.admin_reset_user_usage(uuid, text)', 'EXECUTE')
        )
);
