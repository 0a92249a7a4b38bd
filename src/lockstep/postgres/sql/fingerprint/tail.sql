),
-- The owner's own rights are no grant. What PUBLIC has by default, and has no longer, is one.
rights AS (
    SELECT b.kind, b.schema, b.parent, b.name, b.xid::text AS xid, b.acl_kind, a.grantee,
           string_agg(a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', ' ORDER BY a.privilege_type) AS rights
      FROM base b, LATERAL (SELECT grantee, privilege_type, bool_or(is_grantable) AS is_grantable
                              FROM aclexplode(b.acl) GROUP BY grantee, privilege_type) a
     WHERE b.acl IS NOT NULL AND a.grantee <> b.owner GROUP BY 1, 2, 3, 4, 5, 6, 7),
grants AS (
    SELECT r.kind, r.schema, r.parent, r.name, r.xid, r.grantee, r.rights FROM rights r
     WHERE NOT (r.grantee = 0 AND (r.acl_kind, r.rights) IN (('f', 'EXECUTE'), ('T', 'USAGE'), ('l', 'USAGE')))
    UNION ALL
    SELECT b.kind, b.schema, b.parent, b.name, b.xid::text, 0, '(none)' FROM base b
     WHERE b.acl IS NOT NULL AND b.acl_kind IN ('f', 'T', 'l')
       AND NOT EXISTS (SELECT FROM aclexplode(b.acl) x WHERE x.grantee = 0)),
defaults AS (
    SELECT d.oid, d.xmin::text AS xid, pg_get_userbyid(d.defaclrole)::text AS role, coalesce(o.schema, '') AS schema,
           CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
                                WHEN 'n' THEN 'schemas' ELSE 'large objects' END AS what, d.defaclobjtype, d.defaclacl, d.defaclrole
      FROM pg_default_acl d LEFT JOIN own o ON o.oid = d.defaclnamespace
     WHERE d.defaclnamespace = 0 OR o.oid IS NOT NULL)
SELECT kind, schema, parent, name, definition, body, xid FROM base WHERE definition IS NOT NULL
UNION ALL
SELECT 'comment', b.schema, concat(b.kind, ' ', CASE WHEN b.name = '' THEN b.schema
           WHEN b.parent = '' THEN b.name
           -- A dot in a name must not be taken for the one between names.
           WHEN concat(b.parent, b.name) LIKE '%.%' THEN concat(quote_ident(b.parent), '.', quote_ident(b.name))
           ELSE concat(b.parent, '.', b.name) END), '',
       d.description, NULL, d.xmin
  FROM base b JOIN pg_description d ON d.classoid = b.classid AND d.objoid = b.objid AND d.objsubid = b.subid
 WHERE b.kind <> 'extension'
UNION ALL
SELECT 'grant', g.schema, concat(g.kind, ' ', CASE WHEN g.name = '' THEN g.schema
           WHEN g.parent = '' THEN g.name
           -- A dot in a name must not be taken for the one between names.
           WHEN concat(g.parent, g.name) LIKE '%.%' THEN concat(quote_ident(g.parent), '.', quote_ident(g.name))
           ELSE concat(g.parent, '.', g.name) END),
       CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee)::text END, g.rights, NULL, g.xid::xid
  FROM grants g
UNION ALL
SELECT 'default privileges', d.schema, d.role, concat(d.what, ' to ', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END),
       string_agg(a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', ' ORDER BY a.privilege_type), NULL, d.xid::xid
  FROM defaults d, LATERAL aclexplode(d.defaclacl) a
 WHERE a.grantee <> d.defaclrole
   AND NOT (a.grantee = 0 AND d.schema = '' AND (d.defaclobjtype, a.privilege_type) IN (('f', 'EXECUTE'), ('T', 'USAGE')) AND NOT a.is_grantable)
 GROUP BY d.oid, d.xid, d.role, d.schema, d.what, a.grantee
UNION ALL
SELECT 'default privileges', d.schema, d.role, concat(d.what, ' to PUBLIC'), '(none)', NULL, d.xid::xid
  FROM defaults d
 WHERE d.schema = '' AND d.defaclobjtype IN ('f', 'T') AND NOT EXISTS (SELECT FROM aclexplode(d.defaclacl) x WHERE x.grantee = 0)
UNION ALL
-- Not compared: which roles a grant could be for.
SELECT 'role', '', '', rolname::text, '', NULL, NULL FROM pg_roles WHERE rolname !~ '^pg_'
