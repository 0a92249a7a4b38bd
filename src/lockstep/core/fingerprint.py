"""A schema as values: its objects, each with its definition, and the digests over them. Knows no database.

An object is told by names alone, so the same schema on two servers gives the same values. What only compares within
one major version of PostgreSQL (it prints the text of views in its own words) stands apart, in `body`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Key = tuple[str, str, str, str]  # kind, schema, parent, name


class SchemaObject(NamedTuple):
    """One object. A NamedTuple, since a large schema has a hundred thousand of them."""

    kind: str  # in words: table, column, index, …
    schema: str  # "" for what belongs to no schema
    parent: str  # what it is part of: a column's table, "table orders" of a comment or a grant, else ""
    name: str  # within schema and parent; a grant's is its grantee; "" for a schema and a comment
    definition: str  # everything about it that all supported major versions print alike
    body: str | None = None  # the rest: a view's text, a policy's expressions; compares within one major version only
    xid: int | None = None  # transaction that wrote the catalog's row; no part of what it is. None: unknown

    @property
    def key(self) -> Key:
        return self[:4]

    @property
    def digest(self) -> str:
        """Return 16 hex digits over all that it is, its body included."""
        return hashlib.sha256(_bytes(self)).hexdigest()[:16]

    @property
    def portable_digest(self) -> str:
        """Return 16 hex digits over what compares between major versions."""
        return hashlib.sha256(_bytes(portable(self))).hexdigest()[:16]

    @property
    def label(self) -> str:
        """Return what people call it: index public.orders_total_idx."""
        return label(self.key)

    @property
    def text(self) -> str:
        """Return definition and body, for people."""
        return f"{self.definition}\n{self.body}" if self.body and self.definition else self.body or self.definition


#: Kinds whose parent is part of their name.
_INSIDE = frozenset({"column", "constraint", "not null constraint", "trigger", "rule", "policy"})


def label(key: Key) -> str:
    """Return what people call an object: column public.orders.total, grant to app on table public.orders."""
    kind, schema, parent, name = key
    inside = f"{schema}." if schema else ""
    if kind in _INSIDE:
        return f"{kind} {inside}{parent}.{name}"
    if kind in ("comment", "grant"):
        what, _, of = parent.partition(" ") if not parent.startswith(_TWO_WORDS) else _split(parent)
        on = f"{what} {of}" if what == "schema" or not schema else f"{what} {schema}.{of}"
        return f"comment on {on}" if kind == "comment" else f"grant to {name} on {on}"
    if kind == "default privileges":
        return f"default privileges of {parent} on {name}" + (f" in schema {schema}" if schema else "")
    if kind == "schema":
        return f"schema {schema}"
    if kind == "extension version":
        return f"version of extension {parent}"
    if kind == "index":
        return f"index {inside}{name}"
    return f"{kind} {inside}{name}"


#: Kinds of several words, as parents of comments and grants.
_KINDS_OF_WORDS = (
    "materialized view", "foreign table", "foreign data wrapper", "foreign server", "not null constraint", "event trigger",
    "operator family", "operator class", "text search configuration", "text search dictionary", "access method",
    "text search parser", "text search template",
)  # fmt: skip
_TWO_WORDS = _KINDS_OF_WORDS


def _split(parent: str) -> tuple[str, str, str]:
    kind = next(kind for kind in _KINDS_OF_WORDS if parent.startswith(kind))
    return kind, " ", parent[len(kind) + 1 :]


def _bytes(one: SchemaObject) -> bytes:
    return "\0".join((*one[:5], "\1" if one.body is None else one.body)).encode()


def portable(one: SchemaObject) -> SchemaObject:
    """Return the object as it compares between major versions: without what only newer ones know."""
    definition = one.definition
    if one.kind == "sequence":
        definition = definition.removeprefix("UNLOGGED ")  # since 15, and so are then those of unlogged tables
    if one.kind in ("grant", "default privileges"):
        kept = [right for right in definition.split(", ") if not right.startswith("MAINTAIN")]  # 17 and later
        definition = ", ".join(kept)
    return SchemaObject(*one[:4], definition)


#: What only one side's major version can have, or has by another default.
def is_portable(one: SchemaObject) -> bool:
    """Tell whether the object exists in the eyes of every major version."""
    if one.kind == "not null constraint":  # 18 gives them names
        return False
    if one.kind in ("grant", "default privileges") and not portable(one).definition:
        return False  # nothing but rights that only newer ones know
    # 15 took CREATE on the schema public away from PUBLIC.
    return not (one.kind == "grant" and one.parent == "schema public" and one.name == "PUBLIC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The covered schemas of one database at one moment."""

    major: int  # of the server
    schemas: tuple[str, ...]  # that are covered, sorted
    objects: Mapping[Key, SchemaObject]  # in no order that means anything
    roles: frozenset[str] = frozenset()  # that the server knows; no part of what is compared

    @property
    def digest(self) -> str:
        """Return 64 hex digits over everything: equal for equal schemas within one major version."""
        return _digest(self.objects.values())

    @property
    def portable_digest(self) -> str:
        """Return 64 hex digits over what compares between major versions, without views' texts."""
        return _digest(portable(one) for one in self.objects.values() if is_portable(one))

    def within(self, schemas: Iterable[str]) -> Fingerprint:
        """Return the part that the given schemas have: for one that was taken when others were configured."""
        kept = set(schemas) & set(self.schemas)
        objects = {key: one for key, one in self.objects.items() if not one.schema or one.schema in kept}
        return Fingerprint(major=self.major, schemas=tuple(sorted(kept)), objects=objects, roles=self.roles)


def _digest(objects: Iterable[SchemaObject]) -> str:
    whole = hashlib.sha256()
    for text in sorted(map(_bytes, objects)):
        whole.update(len(text).to_bytes(8, "big"))
        whole.update(text)
    return whole.hexdigest()


def fingerprint_of(
    objects: Iterable[SchemaObject], *, major: int, schemas: Iterable[str], roles: Iterable[str] = ()
) -> Fingerprint:
    """Gather objects into a fingerprint. Objects that names alone do not tell apart count as one, with all they are."""
    gathered: dict[Key, SchemaObject] = {}
    for one in objects:
        twin = gathered.get(one.key)
        gathered[one.key] = one if twin is None else _both(*sorted((twin, one), key=_bytes))
    return Fingerprint(major=major, schemas=tuple(sorted(schemas)), objects=gathered, roles=frozenset(roles))


def _both(one: SchemaObject, twin: SchemaObject) -> SchemaObject:
    """A collation may exist once per encoding; whatever else there may be, nothing is lost in silence."""
    bodies = [body for body in (one.body, twin.body) if body is not None]
    return one._replace(
        definition=f"{one.definition}\n{twin.definition}", body="\n".join(bodies) if bodies else None, xid=None
    )
