-- lockstep: allow=ban-drop-table reason="a down takes back the tables that its up made"
-- lockstep: allow=ban-drop-function reason="a down takes back the functions that its up made"
-- squawk-ignore-file ban-drop-table, ban-drop-function
--
-- Takes back 002. Every stored token is lost: users have to enter theirs again.
DROP FUNCTION IF EXISTS public.get_user_token(uuid, text, bytea);
DROP FUNCTION IF EXISTS public.set_user_token(uuid, text, text, bytea, bigint);
DROP FUNCTION IF EXISTS public.token_macs_equal(bytea, bytea);
DROP FUNCTION IF EXISTS public.token_mac(bytea, bigint, uuid, text, bytea, bytea);
DROP FUNCTION IF EXISTS public.token_decrypt(bytea, bytea, bytea);
DROP FUNCTION IF EXISTS public.token_encrypt(text, bytea, bytea);
DROP FUNCTION IF EXISTS public.token_subkey(bytea, text);
DROP FUNCTION IF EXISTS public.token_random_iv();
DROP TABLE IF EXISTS public.user_tokens;

-- pgcrypto goes only when 002 brought it (its comment says so) and nothing else in the schema has come to depend on it.
-- Function bodies that are plain text leave no trace of what they call: look yourself, if you have others of that kind.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_extension AS e
        WHERE e.extname = 'pgcrypto'
            AND obj_description(e.oid, 'pg_extension') LIKE '%(installed by migration 002-token-encryption)'
    ) THEN
        DROP EXTENSION pgcrypto;
    END IF;
EXCEPTION
    WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'pgcrypto stays: other objects use it by now';
        COMMENT ON EXTENSION pgcrypto IS 'cryptographic functions';
END
$$;
