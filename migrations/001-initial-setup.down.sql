-- lockstep: allow=ban-drop-table reason="a down takes back the tables that its up made"
-- lockstep: allow=ban-drop-function reason="a down takes back the functions that its up made"
-- squawk-ignore-file ban-drop-table, ban-drop-function
--
-- Takes back 001. Every account, session and admin record is lost: afterwards only a backup brings them back.
DROP TABLE IF EXISTS public.admin_action_log;
DROP TABLE IF EXISTS public.admin_emails;
DROP TABLE IF EXISTS public.user_sessions;
DROP TABLE IF EXISTS public.users;
DROP TABLE IF EXISTS public.subscription_limits;
DROP FUNCTION IF EXISTS public.require_admin(text);
DROP FUNCTION IF EXISTS public.set_updated_at();

-- The roles stay: they belong to the whole cluster, and another database may be using them (dev beside prod on one
-- server). What they were granted here goes. When no database needs them any more, drop them by hand:
-- DROP ROLE app_user, app_admin;
DO $$
DECLARE
    role_name text;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('app_user', 'app_admin') LOOP
        EXECUTE format('REVOKE USAGE ON SCHEMA public FROM %I', role_name);
    END LOOP;
END
$$;
