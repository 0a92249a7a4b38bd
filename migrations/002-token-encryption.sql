-- 002: the API keys that users lend us (GitHub, OpenAI, Anthropic, Gemini), encrypted at rest.
--
-- The scheme, encrypt-then-MAC:
--   encryption key = HMAC-SHA256(key, 'user_tokens/v1/encrypt')     two keys from the one that the caller passes,
--   MAC key        = HMAC-SHA256(key, 'user_tokens/v1/mac')         so that neither serves two purposes
--   ciphertext     = AES-256-CBC(encryption key, random 16-byte IV, token), PKCS padding
--   mac            = HMAC-SHA256(MAC key, version || key version || user id || provider || IV || ciphertext)
-- The MAC covers whose token it is and of which provider: a ciphertext copied to another row is refused like a changed
-- one. It is checked before anything is decrypted, so a wrong key gives an error and never garbage.
--
-- The key is 32 random bytes that the application holds (KMS, environment) and passes in with each call as a bound
-- parameter. It is stored nowhere in the database. What server logging would do with it, and how to prevent that:
-- docs/reference/example-schema.md.

-- pgcrypto is taken where it is: Supabase has it in the schema "extensions". A note marks one that we bring, so that
-- the down removes no one else's.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pgcrypto') THEN
        EXECUTE format(
            'CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA %I',
            CASE WHEN to_regnamespace('extensions') IS NULL THEN 'public' ELSE 'extensions' END
        );
        COMMENT ON EXTENSION pgcrypto IS 'cryptographic functions (installed by migration 002-token-encryption)';
    END IF;
END
$$;

CREATE TABLE public.user_tokens (
    user_id uuid NOT NULL,
    provider text NOT NULL,
    key_version bigint NOT NULL,
    iv bytea NOT NULL,
    ciphertext bytea NOT NULL,
    mac bytea NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    -- The primary key begins with user_id: it is the foreign key's index, too.
    CONSTRAINT user_tokens_pkey PRIMARY KEY (user_id, provider),
    CONSTRAINT user_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE,
    CONSTRAINT user_tokens_provider_check CHECK (provider = ANY (ARRAY['github', 'openai', 'anthropic', 'gemini'])),
    CONSTRAINT user_tokens_key_version_check CHECK (key_version > 0),
    CONSTRAINT user_tokens_iv_check CHECK (octet_length(iv) = 16),
    CONSTRAINT user_tokens_ciphertext_check CHECK (octet_length(ciphertext) > 0 AND octet_length(ciphertext) % 16 = 0),
    CONSTRAINT user_tokens_mac_check CHECK (octet_length(mac) = 32)
);
COMMENT ON TABLE public.user_tokens IS
    'API keys of other services, one for each user and provider. Written and read through set_user_token() and '
    'get_user_token() alone.';
COMMENT ON COLUMN public.user_tokens.key_version IS 'Which of the application''s keys encrypted it: for rotating keys.';
COMMENT ON COLUMN public.user_tokens.iv IS 'Fresh random bytes at every write.';
COMMENT ON COLUMN public.user_tokens.mac IS 'Over version, key version, user, provider, IV and ciphertext.';

CREATE TRIGGER user_tokens_set_updated_at BEFORE UPDATE ON public.user_tokens
FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();

-- The cryptographic parts. They have SQL-standard bodies (RETURN …), which are resolved here and now: each call of
-- pgcrypto is bound to that very function. No search_path can redirect it later, and it keeps working when pgcrypto is
-- moved to another schema. The search_path below is for this file alone: it ends with the transaction.
SELECT set_config('search_path', format('pg_catalog, %I', n.nspname), true)
FROM pg_catalog.pg_extension AS e
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pgcrypto';

CREATE FUNCTION public.token_random_iv() RETURNS bytea
LANGUAGE sql VOLATILE
RETURN gen_random_bytes(16);
COMMENT ON FUNCTION public.token_random_iv() IS 'A part of set_user_token().';

CREATE FUNCTION public.token_subkey(key bytea, purpose text) RETURNS bytea
LANGUAGE sql STABLE STRICT
RETURN hmac(convert_to('user_tokens/v1/' || purpose, 'UTF8'), key, 'sha256'::text);
COMMENT ON FUNCTION public.token_subkey(bytea, text) IS
    'The key for one purpose (encrypt, mac). A part of the token functions.';

CREATE FUNCTION public.token_encrypt(token text, key bytea, iv bytea) RETURNS bytea
LANGUAGE sql STABLE STRICT
RETURN encrypt_iv(convert_to(token, 'UTF8'), public.token_subkey(key, 'encrypt'), iv, 'aes-cbc/pad:pkcs'::text);
COMMENT ON FUNCTION public.token_encrypt(text, bytea, bytea) IS 'AES-256-CBC. A part of set_user_token().';

CREATE FUNCTION public.token_decrypt(ciphertext bytea, key bytea, iv bytea) RETURNS text
LANGUAGE sql STABLE STRICT
RETURN convert_from(decrypt_iv(ciphertext, public.token_subkey(key, 'encrypt'), iv, 'aes-cbc/pad:pkcs'::text), 'UTF8');
COMMENT ON FUNCTION public.token_decrypt(bytea, bytea, bytea) IS
    'AES-256-CBC. A part of get_user_token(), to be called after the MAC was found right.';

-- Every part has a fixed length or is preceded by its length: no two inputs give the same text to sign.
CREATE FUNCTION public.token_mac(
    key bytea, key_version bigint, user_id uuid, provider text, iv bytea, ciphertext bytea
) RETURNS bytea
LANGUAGE sql STABLE STRICT
RETURN hmac(
    '\x01'::bytea
    || int8send(key_version)
    || uuid_send(user_id)
    || int4send(octet_length(convert_to(provider, 'UTF8'))) || convert_to(provider, 'UTF8')
    || int4send(octet_length(iv)) || iv
    || ciphertext,
    public.token_subkey(key, 'mac'),
    'sha256'::text
);
COMMENT ON FUNCTION public.token_mac(bytea, bigint, uuid, text, bytea, bytea) IS 'A part of the token functions.';

-- bytea's = stops at the first differing byte, so its time tells how much of a forged MAC was right. Compared are
-- therefore HMACs of both under a key that exists for this comparison only: their bytes tell nothing.
CREATE FUNCTION public.token_macs_equal(one bytea, other bytea) RETURNS boolean
LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
    WITH once AS MATERIALIZED (SELECT gen_random_bytes(32) AS key)
    SELECT hmac(one, once.key, 'sha256'::text) = hmac(other, once.key, 'sha256'::text) FROM once;
END;
COMMENT ON FUNCTION public.token_macs_equal(bytea, bytea) IS
    'Compares without telling by its time. A part of get_user_token().';

-- What the application calls. SECURITY DEFINER: the application needs no access to the columns, to the parts above or
-- to pgcrypto. search_path: pg_catalog first, the session's temporary schema last; everything else is qualified.
CREATE FUNCTION public.set_user_token(
    user_id uuid, provider text, token text, encryption_key bytea, key_version bigint DEFAULT 1
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    fresh_iv constant bytea := public.token_random_iv();
    sealed bytea;
BEGIN
    IF coalesce(octet_length(encryption_key), 0) <> 32 THEN
        RAISE EXCEPTION 'the encryption key must be 32 random bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(token, '') = '' THEN
        RAISE EXCEPTION 'the token is empty' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'To forget a token: DELETE FROM user_tokens WHERE user_id = … AND provider = ….';
    END IF;
    sealed := public.token_encrypt(token, encryption_key, fresh_iv);
    INSERT INTO public.user_tokens AS t (user_id, provider, key_version, iv, ciphertext, mac)
    VALUES (
        set_user_token.user_id, set_user_token.provider, set_user_token.key_version, fresh_iv, sealed,
        public.token_mac(
            encryption_key, set_user_token.key_version, set_user_token.user_id, set_user_token.provider,
            fresh_iv, sealed
        )
    )
    ON CONFLICT ON CONSTRAINT user_tokens_pkey DO UPDATE
    SET key_version = excluded.key_version, iv = excluded.iv, ciphertext = excluded.ciphertext, mac = excluded.mac;
END
$$;
COMMENT ON FUNCTION public.set_user_token(uuid, text, text, bytea, bigint) IS
    'Encrypts and stores a user''s token for a provider (github, openai, anthropic, gemini), replacing an older one. '
    'Pass token and key as bound parameters, never as text of the statement.';

CREATE FUNCTION public.get_user_token(user_id uuid, provider text, encryption_key bytea) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stored public.user_tokens;
    expected bytea;
BEGIN
    IF coalesce(octet_length(encryption_key), 0) <> 32 THEN
        RAISE EXCEPTION 'the encryption key must be 32 random bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT t.* INTO stored FROM public.user_tokens AS t
    WHERE t.user_id = get_user_token.user_id AND t.provider = get_user_token.provider;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- Who asks, not what stands in the row, decides whose token it must be.
    expected := public.token_mac(
        encryption_key, stored.key_version, get_user_token.user_id, get_user_token.provider,
        stored.iv, stored.ciphertext
    );
    IF public.token_macs_equal(expected, stored.mac) IS NOT TRUE THEN
        RAISE EXCEPTION 'the % token of user % cannot be opened: the key is wrong, or what is stored was changed',
            get_user_token.provider, get_user_token.user_id
            USING ERRCODE = 'data_exception',
                  HINT = format('It was stored with key version %s.', stored.key_version);
    END IF;
    RETURN public.token_decrypt(stored.ciphertext, encryption_key, stored.iv);
END
$$;
COMMENT ON FUNCTION public.get_user_token(uuid, text, bytea) IS
    'The stored token in clear; null when there is none; an error (22000) when the key is wrong or the row was '
    'tampered with. Pass the key as a bound parameter.';

ALTER TABLE public.user_tokens ENABLE ROW LEVEL SECURITY;

-- Close, then open (see 001). The parts are for the owner alone, so for the two functions that run as the owner.
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT 'PUBLIC'
        UNION ALL
        SELECT quote_ident(rolname) FROM pg_catalog.pg_roles
        WHERE rolname IN ('app_user', 'app_admin', 'anon', 'authenticated', 'service_role')
    LOOP
        EXECUTE 'REVOKE ALL ON TABLE public.user_tokens FROM ' || grantee;
        EXECUTE 'REVOKE ALL ON FUNCTION public.token_random_iv(), public.token_subkey(bytea, text), '
                'public.token_encrypt(text, bytea, bytea), public.token_decrypt(bytea, bytea, bytea), '
                'public.token_mac(bytea, bigint, uuid, text, bytea, bytea), public.token_macs_equal(bytea, bytea), '
                'public.set_user_token(uuid, text, text, bytea, bigint), public.get_user_token(uuid, text, bytea) FROM '
                || grantee;
    END LOOP;
END
$$;

GRANT SELECT (user_id, provider, key_version, created_at, updated_at) ON public.user_tokens TO app_user;
GRANT DELETE ON public.user_tokens TO app_user;
CREATE POLICY user_tokens_app_user ON public.user_tokens TO app_user USING (true) WITH CHECK (true);
GRANT EXECUTE ON FUNCTION public.set_user_token(uuid, text, text, bytea, bigint) TO app_user;
GRANT EXECUTE ON FUNCTION public.get_user_token(uuid, text, bytea) TO app_user;
