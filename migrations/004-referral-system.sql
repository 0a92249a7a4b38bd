-- 004: referrals: who brought whom, and the credits earned by it.

CREATE TABLE public.user_referrals (
    referred_id uuid NOT NULL,
    referrer_id uuid,
    bonus_credits bigint NOT NULL,
    completed_at timestamptz DEFAULT now() NOT NULL,
    -- As the primary key, the referred user can be here once: this makes complete_referral() safe under races.
    CONSTRAINT user_referrals_pkey PRIMARY KEY (referred_id),
    CONSTRAINT user_referrals_referred_id_fkey FOREIGN KEY (referred_id) REFERENCES public.users (id) ON DELETE CASCADE,
    CONSTRAINT user_referrals_referrer_id_fkey
        FOREIGN KEY (referrer_id) REFERENCES public.users (id) ON DELETE SET NULL,
    CONSTRAINT user_referrals_no_self_referral_check CHECK (referrer_id <> referred_id),
    CONSTRAINT user_referrals_bonus_credits_check CHECK (bonus_credits >= 0)
);
CREATE INDEX user_referrals_referrer_id_idx ON public.user_referrals (referrer_id);
COMMENT ON TABLE public.user_referrals IS 'Completed referrals. Written by complete_referral() alone.';
COMMENT ON COLUMN public.user_referrals.referred_id IS 'The user who came.';
COMMENT ON COLUMN public.user_referrals.referrer_id IS 'The user whose code it was; null = that account is gone.';
COMMENT ON COLUMN public.user_referrals.bonus_credits IS 'What the referrer earned, by the plan of that day.';

CREATE FUNCTION public.complete_referral(user_id uuid, referral_code text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    referrer uuid;
    earned bigint;
    earlier_referrer uuid;
BEGIN
    SELECT u.id, l.referral_credits INTO referrer, earned
    FROM public.users AS u
    INNER JOIN public.subscription_limits AS l ON l.plan = u.plan
    WHERE u.referral_code = upper(btrim(complete_referral.referral_code)) AND u.disabled_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'unknown referral code' USING ERRCODE = 'no_data_found';
    END IF;
    IF referrer = complete_referral.user_id THEN
        RAISE EXCEPTION 'users cannot refer themselves' USING ERRCODE = 'check_violation';
    END IF;
    IF NOT EXISTS (SELECT FROM public.users AS u WHERE u.id = complete_referral.user_id) THEN
        RAISE EXCEPTION 'no such user: %', complete_referral.user_id USING ERRCODE = 'no_data_found';
    END IF;

    -- One of several calls at once inserts; the others wait here until it has committed, and then insert nothing.
    INSERT INTO public.user_referrals (referred_id, referrer_id, bonus_credits)
    VALUES (complete_referral.user_id, referrer, earned)
    ON CONFLICT ON CONSTRAINT user_referrals_pkey DO NOTHING;

    IF FOUND THEN
        UPDATE public.users AS u
        SET total_referrals = u.total_referrals + 1, bonus_credits = u.bonus_credits + earned
        WHERE u.id = referrer;
        RETURN true;
    END IF;

    SELECT r.referrer_id INTO earlier_referrer FROM public.user_referrals AS r
    WHERE r.referred_id = complete_referral.user_id;
    IF earlier_referrer IS DISTINCT FROM referrer THEN
        RAISE EXCEPTION 'user % was referred by someone else already', complete_referral.user_id
            USING ERRCODE = 'unique_violation';
    END IF;
    RETURN false;
END
$$;
COMMENT ON FUNCTION public.complete_referral(uuid, text) IS
    'Credits the owner of the code with having brought this user. True: done by this call. False: was done before, '
    'nothing changed, so repeating it is safe. '
    'Errors: P0002 unknown code or user, 23514 own code, 23505 referred by someone else.';

CREATE FUNCTION public.admin_add_bonus_credits(user_id uuid, credits bigint, admin_email text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    acting_admin constant text := public.require_admin(admin_email);
    balance bigint;
BEGIN
    IF (credits BETWEEN 1 AND 1000000) IS NOT TRUE THEN
        RAISE EXCEPTION 'credits must be between 1 and 1000000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE public.users AS u SET bonus_credits = u.bonus_credits + credits
    WHERE u.id = admin_add_bonus_credits.user_id
    RETURNING u.bonus_credits INTO balance;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such user: %', admin_add_bonus_credits.user_id USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO public.admin_action_log (action, admin_email, user_id, details)
    VALUES (
        'add_bonus_credits', acting_admin, admin_add_bonus_credits.user_id,
        jsonb_build_object('credits', credits, 'balance', balance)
    );
    RETURN balance;
END
$$;
COMMENT ON FUNCTION public.admin_add_bonus_credits(uuid, bigint, text) IS
    'Gives a user bonus credits; returns the new balance. For members of app_admin whose e-mail is listed in '
    'admin_emails; recorded in admin_action_log.';

ALTER TABLE public.user_referrals ENABLE ROW LEVEL SECURITY;

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
        EXECUTE 'REVOKE ALL ON TABLE public.user_referrals FROM ' || grantee;
        EXECUTE 'REVOKE ALL ON FUNCTION public.complete_referral(uuid, text), '
                'public.admin_add_bonus_credits(uuid, bigint, text) FROM ' || grantee;
    END LOOP;
END
$$;

GRANT SELECT ON public.user_referrals TO app_user;
CREATE POLICY user_referrals_app_user_read ON public.user_referrals FOR SELECT TO app_user USING (true);
GRANT EXECUTE ON FUNCTION public.complete_referral(uuid, text) TO app_user;
GRANT EXECUTE ON FUNCTION public.admin_add_bonus_credits(uuid, bigint, text) TO app_admin;
