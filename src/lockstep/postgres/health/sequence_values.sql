-- Where sequences stand. Each is opened once: this is most of what a run costs. NULL: never used.
SELECT o.oid::bigint AS oid, pg_sequence_last_value(o.oid::regclass) AS value
  FROM unnest(%(oids)s::oid[]) AS o(oid)
