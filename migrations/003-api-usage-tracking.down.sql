-- lockstep: allow=ban-drop-table reason="a down takes back the tables that its up made"
-- lockstep: allow=ban-drop-function reason="a down takes back the functions that its up made"
-- squawk-ignore-file ban-drop-table, ban-drop-function
--
-- Takes back 003. The recorded usage is lost; what administrators did stays in admin_action_log.
DROP FUNCTION IF EXISTS public.admin_reset_user_usage(uuid, text);
DROP FUNCTION IF EXISTS public.get_user_usage_stats(uuid);
DROP TABLE IF EXISTS public.api_usage_monthly;
DROP TABLE IF EXISTS public.api_usage;
DROP FUNCTION IF EXISTS public.add_to_monthly_usage();

-- The column is of 001; its content came from here and would be stale when 003 is applied again.
UPDATE public.users SET usage_reset_at = NULL WHERE usage_reset_at IS NOT NULL;
