-- Tables and views of some schemas, those first that foreign keys from elsewhere lead to.
WITH referenced AS (
    SELECT DISTINCT k.confrelid AS oid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND n.nspname <> ALL (%(schemas)s::text[])),
own AS (SELECT c.oid, n.nspname, c.relname, c.relrowsecurity
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname = ANY (%(schemas)s::text[]) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.oid IN (SELECT oid FROM referenced) DESC, n.nspname, c.relname LIMIT %(most)s)
SELECT nspname::text, relname::text,
       ARRAY(SELECT ARRAY[a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod)]
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY a.attnum),
       (SELECT COALESCE(pg_catalog.jsonb_agg(columns), '[]') FROM (SELECT
               (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY place) FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (attnum, place)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS columns
             FROM pg_catalog.pg_constraint k WHERE k.conrelid = own.oid AND k.contype IN ('p', 'u')) AS keys),
       relrowsecurity,
       ARRAY(SELECT pg_catalog.format('CREATE POLICY %%I ON %%I.%%I AS %%s FOR %%s TO %%s%%s%%s', p.polname, nspname, relname,
                 CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                 CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                      WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                 CASE WHEN p.polroles = '{0}' THEN 'PUBLIC' ELSE (
                     SELECT pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', ')
                     FROM pg_catalog.pg_roles r WHERE r.oid = ANY (p.polroles)) END,
                 ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
                 ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
             FROM pg_catalog.pg_policy p WHERE p.polrelid = own.oid ORDER BY p.polname),
       ARRAY(SELECT pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
             WHERE t.tgrelid = own.oid AND NOT t.tgisinternal AND fn.nspname <> ALL (%(schemas)s::text[])
               AND fn.nspname NOT IN ('pg_catalog') ORDER BY t.tgname)
FROM own ORDER BY 1, 2
