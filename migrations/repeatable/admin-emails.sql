-- lockstep: uses=admin_emails
--
-- Makes admin_emails exactly what the environment that migrates says, comma separated:
--   [environments.prod.settings]
--   admin_emails = "${ADMIN_EMAILS}"
-- Lockstep hands it over as the setting lockstep.admin_emails, and applies this file again when its value changes.
-- Unset or empty means that nobody is an administrator. Something that is no address is an error, and nothing changes.
--
-- The admin functions read the table and never the setting: any session can SET that for itself, but only the owner,
-- who migrates, writes the table.
WITH listed AS (
    SELECT DISTINCT lower(btrim(entry, E' \t\r\n')) AS email
    FROM unnest(string_to_array(current_setting('lockstep.admin_emails', true), ',')) AS entry
    WHERE btrim(entry, E' \t\r\n') <> ''
),

removed AS (
    DELETE FROM public.admin_emails AS a
    WHERE NOT EXISTS (SELECT FROM listed WHERE listed.email = a.email)
    RETURNING a.email
),

added AS (
    INSERT INTO public.admin_emails (email)
    SELECT email FROM listed
    ON CONFLICT (email) DO NOTHING
    RETURNING email
)

INSERT INTO public.admin_action_log (action, admin_email)
SELECT 'list_admin', email FROM added
UNION ALL
SELECT 'unlist_admin', email FROM removed;
