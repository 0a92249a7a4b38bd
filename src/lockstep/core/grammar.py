"""PostgreSQL's own grammar (libpg_query, through postgast), made ready for trees of any depth.

Import it late, inside functions: it costs 70 ms that a status does not need.
"""

from __future__ import annotations

from postgast import PgQueryError, deparse, parse, scan, split


def _allow_deep_trees() -> None:
    """protobuf refuses trees of more than 100 levels, which is a chain of 48 `||`. PostgreSQL itself knows no such limit."""
    try:
        from google._upb import _message
    except ImportError:  # another implementation of protobuf, with limits of its own
        return
    _message.SetAllowOversizeProtos(True)


_allow_deep_trees()

__all__ = ["PgQueryError", "deparse", "parse", "scan", "split"]
