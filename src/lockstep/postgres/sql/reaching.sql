-- Relations that lead to a foreign table: the table itself, what it is a partition or child of, views over any of them.
-- A materialized view leads there only when it is refreshed, and what is built on it does not.
WITH RECURSIVE leads(relation, foreign_table) AS (
    SELECT oid, oid FROM pg_catalog.pg_class WHERE relkind = 'f'
    UNION
    SELECT further.relation, leads.foreign_table
    FROM leads JOIN (
        SELECT i.inhrelid AS leads_from, i.inhparent AS relation FROM pg_catalog.pg_inherits AS i
        UNION ALL
        SELECT d.refobjid, r.ev_class
        FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid
        WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND r.ev_class <> d.refobjid
    ) AS further ON further.leads_from = leads.relation
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS own WHERE own.oid = leads.relation AND own.relkind = 'm')
)
SELECT DISTINCT ON (n.nspname, c.relname) n.nspname, c.relname, fn.nspname || '.' || f.relname, c.relkind = 'm'
FROM leads
JOIN pg_catalog.pg_class AS c ON c.oid = leads.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class AS f ON f.oid = leads.foreign_table
JOIN pg_catalog.pg_namespace AS fn ON fn.oid = f.relnamespace
ORDER BY n.nspname, c.relname, fn.nspname, f.relname
