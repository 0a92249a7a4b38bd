-- lockstep: allow=ban-drop-table reason="a down takes back the tables that its up made"
-- lockstep: allow=ban-drop-function reason="a down takes back the functions that its up made"
-- squawk-ignore-file ban-drop-table, ban-drop-function
--
-- Takes back 004, with what it gave: the record of who referred whom is lost, so credits earned by referrals go, too.
-- Kept, they could be earned a second time once 004 is applied again. Credits given by administrators stay.
UPDATE public.users AS u
SET total_referrals = 0,
    bonus_credits = greatest(u.bonus_credits - (
        SELECT coalesce(sum(r.bonus_credits), 0) FROM public.user_referrals AS r WHERE r.referrer_id = u.id
    ), 0)
WHERE u.total_referrals > 0;

DROP FUNCTION IF EXISTS public.admin_add_bonus_credits(uuid, bigint, text);
DROP FUNCTION IF EXISTS public.complete_referral(uuid, text);
DROP TABLE IF EXISTS public.user_referrals;
