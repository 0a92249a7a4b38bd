-- A cheap look whether anything that the fingerprint covers may have changed: of each catalog the number of rows and a
-- hash over which transactions wrote them. Equal tokens: nothing changed. Different ones: look.
-- Definitions name objects of other schemas, so those are in it by their names (`others`), without what they are.
WITH own AS MATERIALIZED (SELECT oid FROM pg_namespace WHERE nspname = ANY ({schemas}::text[])),
others AS MATERIALIZED (
    SELECT oid, nspname FROM pg_namespace
     WHERE (oid >= 16384 OR nspname = 'public') AND oid NOT IN (SELECT oid FROM own) AND nspname !~ '^pg_(toast_)?temp_'),
relations AS MATERIALIZED (SELECT oid, reltoastrelid FROM pg_class WHERE relnamespace IN (SELECT oid FROM own)),
other_relations AS MATERIALIZED (
    SELECT oid, relname, relnamespace FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND relnamespace IN (SELECT oid FROM others))
SELECT encode(sha256(convert_to(string_agg(concat_ws(' ', catalog, rows, hash), E'\n' ORDER BY catalog), 'UTF8')), 'hex') FROM (
    -- By its columns: TRUNCATE, VACUUM FULL and REFRESH write these rows anew and change nothing of what is covered.
    SELECT 'class', count(*), bit_xor(hashtextextended(concat_ws('|', c.relname, c.relnamespace, c.relkind, c.relpersistence, c.reloptions, c.relam, c.reloftype,
               c.relispartition, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relacl, c.relowner, c.relpartbound), c.oid::int8))
      FROM pg_class c WHERE c.oid IN (SELECT oid FROM relations UNION ALL SELECT reltoastrelid FROM relations)
    UNION ALL SELECT 'attribute', count(*), bit_xor(hashtextextended(a.xmin::text, a.attrelid::int8 * 2048 + a.attnum))
      FROM pg_attribute a WHERE a.attrelid IN (SELECT oid FROM relations) AND a.attnum > 0
    UNION ALL SELECT 'attrdef', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'constraint', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_constraint
      WHERE connamespace IN (SELECT oid FROM own)
    UNION ALL SELECT 'index', count(*), bit_xor(hashtextextended(concat(xmin::text, indisvalid, indisready, indisclustered, indisreplident), indexrelid::int8))
      FROM pg_index WHERE indrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'inherits', count(*), bit_xor(hashtextextended(concat(xmin::text, ' ', inhparent, inhdetachpending), inhrelid::int8))
      FROM pg_inherits WHERE inhrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'trigger', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_trigger
      WHERE tgrelid IN (SELECT oid FROM relations) OR tgconstrrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'rewrite', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM relations)
    UNION ALL SELECT 'policy', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_policy WHERE polrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'statistic', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM own)
    UNION ALL SELECT 'sequence', count(*), bit_xor(hashtextextended(xmin::text, seqrelid::int8)) FROM pg_sequence WHERE seqrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'owned', count(*), bit_xor(hashtextextended(concat(d.xmin::text, d.deptype, d.refobjid), d.objid::int8))
      FROM pg_sequence s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i')
     WHERE s.seqrelid IN (SELECT oid FROM relations)
    UNION ALL SELECT 'proc', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM own)
    UNION ALL SELECT 'aggregate', count(*), bit_xor(hashtextextended(xmin::text, aggfnoid::oid::int8)) FROM pg_aggregate WHERE aggfnoid >= 16384
    UNION ALL SELECT 'type', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_type WHERE typnamespace IN (SELECT oid FROM own)
    UNION ALL SELECT 'enum', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_enum
    UNION ALL SELECT 'range', count(*), bit_xor(hashtextextended(xmin::text, rngtypid::int8)) FROM pg_range
    UNION ALL SELECT 'collation', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_collation WHERE oid >= 16384
    UNION ALL SELECT 'conversion', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_conversion WHERE oid >= 16384
    UNION ALL SELECT 'operator', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'opfamily', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_opfamily WHERE oid >= 16384
    UNION ALL SELECT 'opclass', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_opclass WHERE oid >= 16384
    UNION ALL SELECT 'amop', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_amop WHERE oid >= 16384
    UNION ALL SELECT 'amproc', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_amproc WHERE oid >= 16384
    UNION ALL SELECT 'am', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_am
    UNION ALL SELECT 'cast', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT 'transform', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_transform
    UNION ALL SELECT 'language', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_language
    UNION ALL SELECT 'ts config', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_ts_config WHERE oid >= 16384
    UNION ALL SELECT 'ts map', count(*), bit_xor(hashtextextended(concat(xmin::text, ' ', mapseqno), mapcfg::int8 * 1024 + maptokentype)) FROM pg_ts_config_map WHERE mapcfg >= 16384
    UNION ALL SELECT 'ts dict', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_ts_dict WHERE oid >= 16384
    UNION ALL SELECT 'ts parser', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_ts_parser WHERE oid >= 16384
    UNION ALL SELECT 'ts template', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_ts_template WHERE oid >= 16384
    UNION ALL SELECT 'description', count(*), bit_xor(hashtextextended(concat(xmin::text, ' ', classoid::oid, ' ', objsubid), objoid::int8)) FROM pg_description WHERE objoid >= 2200
    UNION ALL SELECT 'namespace', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_namespace WHERE oid IN (SELECT oid FROM own)
    UNION ALL SELECT 'default acl', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_default_acl
    UNION ALL SELECT 'extension', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_extension
    UNION ALL SELECT 'member', count(*), bit_xor(hashtextextended(concat(xmin::text, ' ', classid, ' ', refobjid), objid::int8))
      FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    UNION ALL SELECT 'event trigger', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_event_trigger
    UNION ALL SELECT 'wrapper', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'server', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_foreign_server
    UNION ALL SELECT 'foreign table', count(*), bit_xor(hashtextextended(xmin::text, ftrelid::int8)) FROM pg_foreign_table
    UNION ALL SELECT 'publication', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_publication
    UNION ALL SELECT 'publication table', count(*), bit_xor(hashtextextended(xmin::text, oid::int8)) FROM pg_publication_rel
    {publication_namespace}
    UNION ALL SELECT 'subscription', count(*), bit_xor(hashtextextended(concat_ws('|', subname, subenabled, subslotname, subpublications, subbinary, substream, subsynccommit), oid::int8))
      FROM pg_subscription
    UNION ALL SELECT 'role', count(*), bit_xor(hashtextextended(rolname, oid::int8)) FROM pg_roles
    UNION ALL SELECT 'other namespace', count(*), bit_xor(hashtextextended(nspname, oid::int8)) FROM others
    UNION ALL SELECT 'other class', count(*), bit_xor(hashtextextended(concat(relname, ' ', relnamespace), oid::int8)) FROM other_relations
    UNION ALL SELECT 'other attribute', count(*), bit_xor(hashtextextended(attname, attrelid::int8 * 2048 + attnum)) FROM pg_attribute
      WHERE attnum > 0 AND attrelid IN (SELECT oid FROM other_relations)
    UNION ALL SELECT 'other proc', count(*), bit_xor(hashtextextended(concat(proname, ' ', pronamespace), oid::int8)) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM others)
    UNION ALL SELECT 'other type', count(*), bit_xor(hashtextextended(concat(typname, ' ', typnamespace), oid::int8)) FROM pg_type WHERE typnamespace IN (SELECT oid FROM others)
) AS parts (catalog, rows, hash)
