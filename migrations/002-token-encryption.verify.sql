-- pgcrypto works here (a FIPS build may refuse): what is encrypted comes back, under its own key.
SELECT public.token_decrypt(public.token_encrypt('round trip', k.key, iv.iv), k.key, iv.iv) = 'round trip'
FROM (SELECT decode(repeat('5a', 32), 'hex') AS key) AS k
CROSS JOIN (SELECT public.token_random_iv() AS iv OFFSET 0) AS iv;

-- No two IVs are the same.
SELECT public.token_random_iv() <> public.token_random_iv();

-- The application cannot reach around the two functions made for it.
SELECT NOT has_column_privilege('app_user', 'public.user_tokens', 'ciphertext', 'SELECT')
    AND NOT has_function_privilege('app_user', 'public.token_decrypt(bytea, bytea, bytea)', 'EXECUTE')
    AND has_function_privilege('app_user', 'public.get_user_token(uuid, text, bytea)', 'EXECUTE');

-- Row level security is on; Supabase's API roles, where they exist, may not call anything here.
SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = 'public.user_tokens'::regclass;
SELECT NOT EXISTS (
    SELECT FROM pg_catalog.pg_roles AS r
    WHERE r.rolname IN ('anon', 'authenticated', 'service_role')
        AND (
            has_any_column_privilege(r.oid, 'public.user_tokens', 'SELECT, INSERT, UPDATE, REFERENCES')
            OR has_table_privilege(r.oid, 'public.user_tokens', 'DELETE, TRUNCATE, TRIGGER')
            OR has_function_privilege(r.oid, 'public.get_user_token(uuid, text, bytea)', 'EXECUTE')
            OR has_function_privilege(r.oid, 'public.set_user_token(uuid, text, text, bytea, bigint)', 'EXECUTE')
        )
);
