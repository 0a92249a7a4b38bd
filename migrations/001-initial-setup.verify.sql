-- Row level security guards every table.
SELECT bool_and(relrowsecurity)
FROM pg_catalog.pg_class
WHERE oid = ANY (ARRAY[
    'public.subscription_limits', 'public.users', 'public.user_sessions',
    'public.admin_emails', 'public.admin_action_log'
]::regclass[]);

-- The roles of Supabase's HTTP API, where they exist, can do nothing with them.
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS r
    CROSS JOIN unnest(ARRAY[
        'public.subscription_limits', 'public.users', 'public.user_sessions',
        'public.admin_emails', 'public.admin_action_log'
    ]::regclass[]) AS t (table_id)
    WHERE r.rolname IN ('anon', 'authenticated', 'service_role')
        AND (
            has_any_column_privilege(r.oid, t.table_id, 'SELECT, INSERT, UPDATE, REFERENCES')
            OR has_table_privilege(r.oid, t.table_id, 'DELETE, TRUNCATE, TRIGGER')
        )
);

-- The application can neither act as an administrator nor make one.
SELECT NOT pg_has_role('app_user', 'app_admin', 'MEMBER');
SELECT NOT has_any_column_privilege('app_user', 'public.admin_emails', 'SELECT, INSERT, UPDATE')
    AND NOT has_table_privilege('app_user', 'public.admin_emails', 'DELETE, TRUNCATE');

-- It can do its work.
SELECT has_schema_privilege('app_user', 'public', 'USAGE')
    AND has_table_privilege('app_user', 'public.users', 'SELECT')
    AND has_column_privilege('app_user', 'public.user_sessions', 'token_hash', 'INSERT');

-- There is a plan to begin with.
SELECT EXISTS (SELECT FROM public.subscription_limits WHERE plan = 'free');
