-- 001: users, their sessions, the plans they are on, and who may administer them.
--
-- How these files are written, and why:
-- * No BEGIN/COMMIT: Lockstep runs each file in one transaction. It is applied whole or not at all, so CREATE TABLE
--   needs no IF NOT EXISTS here; it would only accept a foreign table of the same name, whatever its columns and
--   whoever its owner. IF NOT EXISTS stands where any existing object of that name will do (an extension).
-- * Names are qualified with their schema: nothing depends on the search_path of the session that migrates.
-- * Each table is closed first (default privileges may have opened it, as Supabase's do), has row level security on,
--   and is then opened for exactly what its role needs.
-- * Two group roles, which no one logs in as:
--     app_user   what the application server may do. Its login role is a member: GRANT app_user TO shop_server;
--                The server is trusted to act for its users, so the policies let app_user see every row;
--                the column privileges say what it may change.
--     app_admin  may call the admin functions of 003 and 004. Granted to people, never to app_user.
-- docs/reference/example-schema.md describes the whole.

-- Roles belong to the cluster, not to a database: another database may have made them already, or may do so at this
-- moment. What exists is taken as it is, unless it would undo the separation of the two.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['app_user', 'app_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN
                    NULL; -- another database was faster: as good
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'the role "%" does not exist, and "%" may not create roles', role_name, current_user
                        USING ERRCODE = 'insufficient_privilege',
                              HINT = 'Let a role with CREATEROLE run once on this server: '
                                     'CREATE ROLE app_user NOLOGIN; CREATE ROLE app_admin NOLOGIN; then apply again.';
            END;
        END IF;
    END LOOP;

    IF EXISTS (SELECT FROM pg_catalog.pg_roles
               WHERE rolname = 'app_user' AND (rolsuper OR rolcreaterole OR rolbypassrls)) THEN
        RAISE EXCEPTION 'the existing role "app_user" is too powerful for an application'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Run: ALTER ROLE app_user NOSUPERUSER NOCREATEROLE NOBYPASSRLS;';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'app_admin' AND rolcanlogin) THEN
        RAISE EXCEPTION 'the existing role "app_admin" can log in; it must be a group that people are members of'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Run: ALTER ROLE app_admin NOLOGIN;';
    END IF;
    IF pg_catalog.pg_has_role('app_user', 'app_admin', 'MEMBER') THEN
        RAISE EXCEPTION 'the existing role "app_user" is a member of "app_admin"'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'The application must not be able to act as an administrator. '
                         'Run: REVOKE app_admin FROM app_user; (or from the group in between).';
    END IF;
END
$$;

GRANT USAGE ON SCHEMA public TO app_user, app_admin;

-- Plans ---------------------------------------------------------------------------------------------------------------

CREATE TABLE public.subscription_limits (
    plan text NOT NULL,
    display_name text NOT NULL,
    monthly_requests bigint,
    requests_per_minute bigint NOT NULL,
    max_payload_bytes bigint NOT NULL,
    referral_credits bigint NOT NULL,
    features jsonb DEFAULT '{}' NOT NULL,
    CONSTRAINT subscription_limits_pkey PRIMARY KEY (plan),
    CONSTRAINT subscription_limits_monthly_requests_check CHECK (monthly_requests > 0),
    CONSTRAINT subscription_limits_requests_per_minute_check CHECK (requests_per_minute > 0),
    CONSTRAINT subscription_limits_max_payload_bytes_check CHECK (max_payload_bytes > 0),
    CONSTRAINT subscription_limits_referral_credits_check CHECK (referral_credits >= 0),
    CONSTRAINT subscription_limits_features_check CHECK (jsonb_typeof(features) = 'object')
);
COMMENT ON TABLE public.subscription_limits IS 'The plans: what each allows. Changed by migrations only.';
COMMENT ON COLUMN public.subscription_limits.monthly_requests IS
    'API requests in a calendar month (UTC); null = unlimited.';
COMMENT ON COLUMN public.subscription_limits.referral_credits IS
    'Bonus credits that a user of this plan earns for each completed referral. One credit = one more request a month.';
COMMENT ON COLUMN public.subscription_limits.features IS 'Feature switches, for example {"export": true}.';

INSERT INTO public.subscription_limits
    (plan, display_name, monthly_requests, requests_per_minute, max_payload_bytes, referral_credits, features)
VALUES
    ('free', 'Free', 1000, 10, 262144, 100, '{"providers": 1, "export": false, "support": false}'),
    ('pro', 'Pro', 50000, 120, 4194304, 500, '{"providers": 4, "export": true, "support": false}'),
    ('enterprise', 'Enterprise', NULL, 1200, 33554432, 500, '{"providers": 4, "export": true, "support": true}');

-- Users ---------------------------------------------------------------------------------------------------------------

CREATE TABLE public.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email text NOT NULL,
    email_verified_at timestamptz,
    password_hash text,
    display_name text,
    avatar_url text,
    plan text DEFAULT 'free' NOT NULL,
    usage_reset_at timestamptz,
    referral_code text DEFAULT upper(substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)) NOT NULL,
    total_referrals bigint DEFAULT 0 NOT NULL,
    bonus_credits bigint DEFAULT 0 NOT NULL,
    last_login_at timestamptz,
    disabled_at timestamptz,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_email_check CHECK (email = lower(btrim(email)) AND email LIKE '_%@_%' AND length(email) <= 254),
    CONSTRAINT users_password_hash_check CHECK (length(password_hash) >= 50),
    CONSTRAINT users_plan_fkey FOREIGN KEY (plan) REFERENCES public.subscription_limits (plan),
    CONSTRAINT users_referral_code_key UNIQUE (referral_code),
    CONSTRAINT users_referral_code_check CHECK (referral_code ~ '^[0-9A-Z]{6,32}$'),
    CONSTRAINT users_total_referrals_check CHECK (total_referrals >= 0),
    CONSTRAINT users_bonus_credits_check CHECK (bonus_credits >= 0)
);
CREATE INDEX users_plan_idx ON public.users (plan);
COMMENT ON TABLE public.users IS 'One row for each account: authentication, profile, plan, what referrals have earned.';
COMMENT ON COLUMN public.users.email IS 'Lower case, trimmed: two spellings of one address cannot become two accounts.';
COMMENT ON COLUMN public.users.password_hash IS
    'argon2id, scrypt or bcrypt string made by the application (a password is never sent to the database); '
    'null = no password sign-in.';
COMMENT ON COLUMN public.users.usage_reset_at IS 'When an administrator last reset the usage; null = never.';
COMMENT ON COLUMN public.users.referral_code IS 'Given to friends. Not a secret: 48 random bits, so that it is unique.';
COMMENT ON COLUMN public.users.total_referrals IS 'Completed referrals. Written by complete_referral() alone.';
COMMENT ON COLUMN public.users.bonus_credits IS
    'Requests a month beyond the plan''s. Written by complete_referral() and admin_add_bonus_credits() alone.';
COMMENT ON COLUMN public.users.disabled_at IS 'Locked out since; null = active.';

CREATE FUNCTION public.set_updated_at() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION public.set_updated_at() IS 'Trigger: keeps updated_at true, whoever writes.';

CREATE TRIGGER users_set_updated_at BEFORE UPDATE ON public.users
FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();

-- Sessions ------------------------------------------------------------------------------------------------------------

CREATE TABLE public.user_sessions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    user_agent text,
    ip_address inet,
    created_at timestamptz DEFAULT now() NOT NULL,
    last_seen_at timestamptz,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT user_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT user_sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE,
    CONSTRAINT user_sessions_token_hash_key UNIQUE (token_hash),
    CONSTRAINT user_sessions_token_hash_check CHECK (octet_length(token_hash) = 32),
    CONSTRAINT user_sessions_expires_at_check CHECK (expires_at > created_at)
);
CREATE INDEX user_sessions_user_id_idx ON public.user_sessions (user_id);
CREATE INDEX user_sessions_expires_at_idx ON public.user_sessions (expires_at);
COMMENT ON TABLE public.user_sessions IS 'JWT sessions. A reader of this table cannot sign in with what stands here.';
COMMENT ON COLUMN public.user_sessions.id IS 'The token''s jti claim.';
COMMENT ON COLUMN public.user_sessions.token_hash IS
    'SHA-256 of the token, 32 bytes, computed by the application. The token itself is never stored, nor sent here.';
COMMENT ON COLUMN public.user_sessions.revoked_at IS 'Signed out since; null = good until expires_at.';

-- Administrators ------------------------------------------------------------------------------------------------------

CREATE TABLE public.admin_emails (
    email text NOT NULL,
    added_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT admin_emails_pkey PRIMARY KEY (email),
    CONSTRAINT admin_emails_email_check
        CHECK (email = lower(email) AND email ~ '^[^[:space:]@,]+@[^[:space:]@,]+$' AND length(email) <= 254)
);
COMMENT ON TABLE public.admin_emails IS
    'Who may use the admin functions, beside being a member of app_admin. Filled by repeatable/admin-emails.sql from '
    'the environment that migrates; only the owner writes here. Empty = nobody.';

CREATE TABLE public.admin_action_log (
    id bigint GENERATED ALWAYS AS IDENTITY,
    acted_at timestamptz DEFAULT now() NOT NULL,
    action text NOT NULL,
    admin_email text NOT NULL,
    database_role text DEFAULT session_user NOT NULL,
    user_id uuid,
    details jsonb DEFAULT '{}' NOT NULL,
    CONSTRAINT admin_action_log_pkey PRIMARY KEY (id),
    CONSTRAINT admin_action_log_details_check CHECK (jsonb_typeof(details) = 'object')
);
CREATE INDEX admin_action_log_user_id_idx ON public.admin_action_log (user_id, acted_at);
COMMENT ON TABLE public.admin_action_log IS
    'Every use of an admin function and every change of admin_emails. Written in the transaction of what was done: '
    'a refused call leaves nothing here (its error stands in the server''s log).';
COMMENT ON COLUMN public.admin_action_log.admin_email IS 'As the caller gave it, and found in admin_emails.';
COMMENT ON COLUMN public.admin_action_log.database_role IS
    'Who really logged in to the database: the server vouches for it.';
COMMENT ON COLUMN public.admin_action_log.user_id IS 'The user acted on. No foreign key: the log outlives the account.';

CREATE FUNCTION public.require_admin(admin_email text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_email text;
BEGIN
    SELECT a.email INTO found_email FROM public.admin_emails AS a
    WHERE a.email = lower(btrim(require_admin.admin_email));
    IF found_email IS NULL THEN
        RAISE EXCEPTION 'not an administrator: %', coalesce(quote_literal(admin_email), 'no e-mail given')
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Administrators are listed in the migration setting admin_emails.';
    END IF;
    RETURN found_email;
END
$$;
COMMENT ON FUNCTION public.require_admin(text) IS
    'The e-mail as it stands in admin_emails, or an error. A part of the admin functions; nobody else may call it.';

-- Close, then open ----------------------------------------------------------------------------------------------------

ALTER TABLE public.subscription_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.user_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.admin_emails ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.admin_action_log ENABLE ROW LEVEL SECURITY;

-- Default privileges may have granted to any of these: Supabase's grant everything to the three roles of its HTTP API.
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
        EXECUTE 'REVOKE ALL ON TABLE public.subscription_limits, public.users, public.user_sessions, '
                'public.admin_emails, public.admin_action_log FROM ' || grantee;
        EXECUTE 'REVOKE ALL ON SEQUENCE public.admin_action_log_id_seq FROM ' || grantee;
        EXECUTE 'REVOKE ALL ON FUNCTION public.set_updated_at(), public.require_admin(text) FROM ' || grantee;
    END LOOP;
END
$$;

GRANT SELECT ON public.subscription_limits TO app_user, app_admin;
CREATE POLICY subscription_limits_read ON public.subscription_limits FOR SELECT TO app_user, app_admin USING (true);

GRANT SELECT, DELETE ON public.users TO app_user;
GRANT INSERT (email, email_verified_at, password_hash, display_name, avatar_url, plan, last_login_at)
    ON public.users TO app_user;
GRANT UPDATE (email, email_verified_at, password_hash, display_name, avatar_url, plan, last_login_at, disabled_at)
    ON public.users TO app_user;
CREATE POLICY users_app_user ON public.users TO app_user USING (true) WITH CHECK (true);

GRANT SELECT (id, email, plan, usage_reset_at, total_referrals, bonus_credits, disabled_at, created_at)
    ON public.users TO app_admin;
CREATE POLICY users_app_admin_read ON public.users FOR SELECT TO app_admin USING (true);

GRANT SELECT, DELETE ON public.user_sessions TO app_user;
GRANT INSERT (id, user_id, token_hash, user_agent, ip_address, expires_at) ON public.user_sessions TO app_user;
GRANT UPDATE (last_seen_at, revoked_at) ON public.user_sessions TO app_user;
CREATE POLICY user_sessions_app_user ON public.user_sessions TO app_user USING (true) WITH CHECK (true);

GRANT SELECT ON public.admin_emails, public.admin_action_log TO app_admin;
CREATE POLICY admin_emails_app_admin_read ON public.admin_emails FOR SELECT TO app_admin USING (true);
CREATE POLICY admin_action_log_app_admin_read ON public.admin_action_log FOR SELECT TO app_admin USING (true);
