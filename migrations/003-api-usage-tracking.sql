-- lockstep: allow=prefer-bigint-over-smallint reason="an HTTP status has three digits and stands in every row"
-- squawk-ignore-file prefer-bigint-over-smallint
--
-- 003: API usage: one row for each request, a summary for each user and month, and what a user may still do.
--
-- The summary is kept by a trigger as rows arrive, in the same transaction. So the old rows of api_usage can be deleted
-- at will (the summary stays), and asking for a user's usage reads one row.

CREATE TABLE public.api_usage (
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id uuid NOT NULL,
    endpoint text NOT NULL,
    method text NOT NULL,
    status_code smallint NOT NULL,
    response_time_ms bigint NOT NULL,
    request_bytes bigint DEFAULT 0 NOT NULL,
    response_bytes bigint DEFAULT 0 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT api_usage_pkey PRIMARY KEY (id),
    CONSTRAINT api_usage_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE,
    CONSTRAINT api_usage_endpoint_check CHECK (endpoint LIKE '/%' AND length(endpoint) <= 2048),
    CONSTRAINT api_usage_method_check CHECK (method ~ '^[A-Z]{3,10}$'),
    CONSTRAINT api_usage_status_code_check CHECK (status_code >= 100 AND status_code <= 599),
    CONSTRAINT api_usage_response_time_ms_check CHECK (response_time_ms >= 0),
    CONSTRAINT api_usage_request_bytes_check CHECK (request_bytes >= 0),
    CONSTRAINT api_usage_response_bytes_check CHECK (response_bytes >= 0)
);
CREATE INDEX api_usage_user_id_created_at_idx ON public.api_usage (user_id, created_at);
-- Tiny, and all that a clean-up by age needs: rows arrive in the order of their time.
CREATE INDEX api_usage_created_at_idx ON public.api_usage USING brin (created_at);
COMMENT ON TABLE public.api_usage IS
    'One row for each API request. Append-only for the application; old rows may be deleted.';
COMMENT ON COLUMN public.api_usage.endpoint IS 'Route, without the query string: that may hold secrets.';
COMMENT ON COLUMN public.api_usage.response_time_ms IS 'Milliseconds.';
COMMENT ON COLUMN public.api_usage.request_bytes IS 'Size of the payload received.';
COMMENT ON COLUMN public.api_usage.response_bytes IS 'Size of the payload sent.';

CREATE TABLE public.api_usage_monthly (
    user_id uuid NOT NULL,
    month date NOT NULL,
    request_count bigint DEFAULT 0 NOT NULL,
    counted_requests bigint DEFAULT 0 NOT NULL,
    error_count bigint DEFAULT 0 NOT NULL,
    total_response_time_ms bigint DEFAULT 0 NOT NULL,
    request_bytes bigint DEFAULT 0 NOT NULL,
    response_bytes bigint DEFAULT 0 NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    -- The primary key begins with user_id: it is the foreign key's index, too.
    CONSTRAINT api_usage_monthly_pkey PRIMARY KEY (user_id, month),
    CONSTRAINT api_usage_monthly_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE,
    CONSTRAINT api_usage_monthly_month_check CHECK (EXTRACT(DAY FROM month) = 1),
    CONSTRAINT api_usage_monthly_counts_check CHECK (counted_requests >= 0 AND counted_requests <= request_count)
);
COMMENT ON TABLE public.api_usage_monthly IS 'Sums of api_usage for each user and calendar month. Kept by a trigger.';
COMMENT ON COLUMN public.api_usage_monthly.month IS 'First day of the calendar month, UTC.';
COMMENT ON COLUMN public.api_usage_monthly.request_count IS 'All requests of the month. Never goes down.';
COMMENT ON COLUMN public.api_usage_monthly.counted_requests IS
    'Requests that count against the plan: request_count, but back to 0 when an administrator resets it.';
COMMENT ON COLUMN public.api_usage_monthly.error_count IS 'Requests answered with status 400 or above.';

-- Once for each INSERT statement, however many rows it brings. The order keeps two batches from locking the same users'
-- summaries in opposite order, which would be a deadlock.
CREATE FUNCTION public.add_to_monthly_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO public.api_usage_monthly AS m (
        user_id, month, request_count, counted_requests, error_count,
        total_response_time_ms, request_bytes, response_bytes
    )
    SELECT
        n.user_id,
        date_trunc('month', n.created_at AT TIME ZONE 'UTC')::date,
        count(*),
        count(*),
        count(*) FILTER (WHERE n.status_code >= 400),
        sum(n.response_time_ms),
        sum(n.request_bytes),
        sum(n.response_bytes)
    FROM new_rows AS n
    GROUP BY 1, 2
    ORDER BY 1, 2
    ON CONFLICT ON CONSTRAINT api_usage_monthly_pkey DO UPDATE
    SET request_count = m.request_count + excluded.request_count,
        counted_requests = m.counted_requests + excluded.counted_requests,
        error_count = m.error_count + excluded.error_count,
        total_response_time_ms = m.total_response_time_ms + excluded.total_response_time_ms,
        request_bytes = m.request_bytes + excluded.request_bytes,
        response_bytes = m.response_bytes + excluded.response_bytes,
        updated_at = now();
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION public.add_to_monthly_usage() IS 'Trigger: adds new api_usage rows to api_usage_monthly.';

CREATE TRIGGER api_usage_add_to_monthly AFTER INSERT ON public.api_usage
REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION public.add_to_monthly_usage();

CREATE FUNCTION public.get_user_usage_stats(user_id uuid)
RETURNS TABLE (
    plan text,
    month date,
    requests_made bigint,
    requests_used bigint,
    plan_requests bigint,
    bonus_credits bigint,
    requests_allowed bigint,
    requests_remaining bigint,
    total_referrals bigint,
    error_count bigint,
    average_response_time_ms numeric,
    request_bytes bigint,
    response_bytes bigint,
    usage_reset_at timestamptz,
    features jsonb
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    this_month constant date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
BEGIN
    RETURN QUERY
    SELECT
        u.plan,
        this_month,
        coalesce(m.request_count, 0),
        coalesce(m.counted_requests, 0),
        l.monthly_requests,
        u.bonus_credits,
        l.monthly_requests + u.bonus_credits,
        greatest(l.monthly_requests + u.bonus_credits - coalesce(m.counted_requests, 0),
                 CASE WHEN l.monthly_requests IS NOT NULL THEN 0 END),
        u.total_referrals,
        coalesce(m.error_count, 0),
        round(m.total_response_time_ms::numeric / nullif(m.request_count, 0), 1),
        coalesce(m.request_bytes, 0),
        coalesce(m.response_bytes, 0),
        u.usage_reset_at,
        l.features
    FROM public.users AS u
    INNER JOIN public.subscription_limits AS l ON l.plan = u.plan
    LEFT JOIN public.api_usage_monthly AS m ON m.user_id = u.id AND m.month = this_month
    WHERE u.id = get_user_usage_stats.user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such user: %', get_user_usage_stats.user_id USING ERRCODE = 'no_data_found';
    END IF;
END
$$;
COMMENT ON FUNCTION public.get_user_usage_stats(uuid) IS
    'Usage of the current calendar month (UTC) against what plan and bonus credits (referrals included) allow. '
    'plan_requests, requests_allowed and requests_remaining are null on an unlimited plan.';

CREATE FUNCTION public.admin_reset_user_usage(user_id uuid, admin_email text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    acting_admin constant text := public.require_admin(admin_email);
    this_month constant date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
    forgiven bigint;
BEGIN
    UPDATE public.users AS u SET usage_reset_at = now() WHERE u.id = admin_reset_user_usage.user_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such user: %', admin_reset_user_usage.user_id USING ERRCODE = 'no_data_found';
    END IF;
    SELECT m.counted_requests INTO forgiven FROM public.api_usage_monthly AS m
    WHERE m.user_id = admin_reset_user_usage.user_id AND m.month = this_month
    FOR NO KEY UPDATE;
    forgiven := coalesce(forgiven, 0);
    UPDATE public.api_usage_monthly AS m SET counted_requests = 0, updated_at = now()
    WHERE m.user_id = admin_reset_user_usage.user_id AND m.month = this_month;
    INSERT INTO public.admin_action_log (action, admin_email, user_id, details)
    VALUES (
        'reset_user_usage', acting_admin, admin_reset_user_usage.user_id,
        jsonb_build_object('month', this_month, 'requests_forgiven', forgiven)
    );
    RETURN forgiven;
END
$$;
COMMENT ON FUNCTION public.admin_reset_user_usage(uuid, text) IS
    'Makes the requests of the current month count no longer; returns how many did. For members of app_admin whose '
    'e-mail is listed in admin_emails; recorded in admin_action_log.';

ALTER TABLE public.api_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.api_usage_monthly ENABLE ROW LEVEL SECURITY;

-- Close, then open (see 001).
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
        EXECUTE 'REVOKE ALL ON TABLE public.api_usage, public.api_usage_monthly FROM ' || grantee;
        EXECUTE 'REVOKE ALL ON SEQUENCE public.api_usage_id_seq FROM ' || grantee;
        EXECUTE 'REVOKE ALL ON FUNCTION public.add_to_monthly_usage(), public.get_user_usage_stats(uuid), '
                'public.admin_reset_user_usage(uuid, text) FROM ' || grantee;
    END LOOP;
END
$$;

GRANT SELECT ON public.api_usage, public.api_usage_monthly TO app_user;
GRANT INSERT (user_id, endpoint, method, status_code, response_time_ms, request_bytes, response_bytes)
    ON public.api_usage TO app_user;
CREATE POLICY api_usage_app_user_read ON public.api_usage FOR SELECT TO app_user USING (true);
CREATE POLICY api_usage_app_user_add ON public.api_usage FOR INSERT TO app_user WITH CHECK (true);
CREATE POLICY api_usage_monthly_app_user_read ON public.api_usage_monthly FOR SELECT TO app_user USING (true);
GRANT EXECUTE ON FUNCTION public.get_user_usage_stats(uuid) TO app_user, app_admin;
GRANT EXECUTE ON FUNCTION public.admin_reset_user_usage(uuid, text) TO app_admin;
