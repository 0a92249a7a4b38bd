"""Which changes of a column's type leave the rows as they are, and which default values are the same for every row."""

from __future__ import annotations

import re
from typing import Any

from lockstep.core.locking.nodes import every, strings

_SHAPE = re.compile(r"([a-z ]+?)\s*(?:\((\d+)(?:,\s*(\d+))?\))?")
_TEXTS = {"text", "varchar", "character varying"}


def keeps_rows(old: str | None, new: str) -> bool:
    """Whether ALTER COLUMN TYPE from `old` to `new` rewrites no row (types as the parser prints them).

    True only where it is certain: the same type, varchar or text made longer, numeric made more precise at its scale.
    """
    if old is None:
        return False
    if old == new:
        return True
    before, after = _SHAPE.fullmatch(old), _SHAPE.fullmatch(new)
    if before is None or after is None:
        return False
    if before[1] in _TEXTS and after[1] in _TEXTS:
        return after[2] is None or (before[2] is not None and int(after[2]) >= int(before[2]))
    if before[1] == after[1] == "numeric":
        same_scale = int(before[3] or 0) == int(after[3] or 0)
        return after[2] is None or (before[2] is not None and same_scale and int(after[2]) >= int(before[2]))
    return False


def may_keep_rows(new: str) -> bool:
    """Whether there are types from which a change to `new` rewrites nothing."""
    shape = _SHAPE.fullmatch(new)
    return shape is not None and shape[1] in {*_TEXTS, "numeric"}


SERIALS = {"serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"}
#: Built-in functions that give every row a value of its own.
_VOLATILE = {
    "random", "random_normal", "clock_timestamp", "timeofday", "nextval", "setval", "currval", "lastval",
    "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4",
    "gen_random_bytes", "gen_salt", "txid_current", "pg_current_xact_id", "set_config", "pg_backend_pid",
}  # fmt: skip
#: Built-in functions that people write in defaults and that are computed once for all old rows.
_STABLE = {
    "now", "transaction_timestamp", "statement_timestamp", "current_setting", "current_database", "current_schema",
    "lower", "upper", "length", "concat", "concat_ws", "md5", "abs", "round", "trunc", "floor", "ceil", "date_trunc",
    "date_part", "extract", "timezone", "make_interval", "make_date", "make_timestamp", "make_timestamptz",
    "to_timestamp", "to_date", "to_char", "to_json", "to_jsonb", "json_build_object", "jsonb_build_object",
    "json_build_array", "jsonb_build_array", "jsonb_object", "array_fill", "replace", "substring", "btrim", "ltrim",
    "rtrim", "format", "encode", "decode", "sha256", "int4range", "int8range", "numrange", "tstzrange", "tsrange",
    "daterange", "point", "box", "age", "repeat", "left", "right", "to_tsvector", "current_user", "session_user",
}  # fmt: skip


def volatile(expression: Any) -> tuple[bool, str | None]:
    """Whether a default gives every row a value of its own: (certainly, function whose volatility is not known)."""
    unknown = None
    for call in every(expression, "FuncCall"):
        names = strings(call.funcname)
        builtin = len(names) == 1 or names[0] == "pg_catalog"
        if names[-1] in _VOLATILE:
            return True, None
        if not builtin or names[-1] not in _STABLE:
            unknown = ".".join(names)
    return False, unknown
