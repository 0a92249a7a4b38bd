-- The application completes referrals; only administrators give credits.
SELECT has_function_privilege('app_user', 'public.complete_referral(uuid, text)', 'EXECUTE')
    AND has_function_privilege('app_admin', 'public.admin_add_bonus_credits(uuid, bigint, text)', 'EXECUTE')
    AND NOT has_function_privilege('app_user', 'public.admin_add_bonus_credits(uuid, bigint, text)', 'EXECUTE');

-- Credits change through the functions alone.
SELECT NOT has_column_privilege('app_user', 'public.users', 'bonus_credits', 'INSERT, UPDATE')
    AND NOT has_column_privilege('app_user', 'public.users', 'total_referrals', 'INSERT, UPDATE')
    AND NOT has_any_column_privilege('app_user', 'public.user_referrals', 'INSERT, UPDATE')
    AND NOT has_table_privilege('app_user', 'public.user_referrals', 'DELETE, TRUNCATE');

-- Row level security is on; Supabase's API roles, where they exist, can do nothing here.
SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = 'public.user_referrals'::regclass;
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS r
    WHERE r.rolname IN ('anon', 'authenticated', 'service_role')
        AND (
            has_any_column_privilege(r.oid, 'public.user_referrals', 'SELECT, INSERT, UPDATE, REFERENCES')
            OR has_table_privilege(r.oid, 'public.user_referrals', 'DELETE, TRUNCATE, TRIGGER')
            OR has_function_privilege(r.oid, 'public.complete_referral(uuid, text)', 'EXECUTE')
            OR has_function_privilege(r.oid, 'public.admin_add_bonus_credits(uuid, bigint, text)', 'EXECUTE')
        )
);
