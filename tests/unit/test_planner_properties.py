"""The planner, by properties: for every combination of files and ledger it answers, and never plans a second time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lockstep.core.comparison import compare
from lockstep.core.ledger import Entry, EntryState, Hold, Ledger
from lockstep.core.migration import Folder, Kind, Migration
from lockstep.core.planner import Plan, PlanOptions, plan
from tests.unit.folders import entry, folder, hold, migration, repeatable

VERSIONS = st.integers(min_value=1, max_value=6)
TEXTS = st.sampled_from(
    ["SELECT 1;", "SELECT  1; -- why", "SELECT 2;", "", "not sql 'at all", "-- lockstep: transaction=none\nVACUUM;"]
)


@st.composite
def folders(draw: st.DrawFn) -> Folder:
    versions = draw(st.sets(VERSIONS))
    made: list[Migration] = [
        migration(v, draw(TEXTS) or " ", down=draw(st.sampled_from([None, "SELECT 3;"]))) for v in versions
    ]
    made += [repeatable(name, draw(TEXTS)) for name in draw(st.sets(st.sampled_from(["a", "b"])))]
    return folder(*made, duplicates=draw(st.sampled_from([(), (("001-a.sql", "001-b.sql"),)])))


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    entries: list[Entry] = []
    for version in sorted(draw(st.sets(VERSIONS))):
        entries.append(
            entry(
                migration(version),
                text=draw(TEXTS),
                state=draw(st.sampled_from(EntryState)),
                kind=draw(st.sampled_from([Kind.VERSIONED, Kind.BASELINE])),
                verified=draw(st.booleans()),
            )
        )
    entries += [entry(repeatable(name, draw(TEXTS))) for name in sorted(draw(st.sets(st.sampled_from(["a", "b"]))))]
    holds: list[Hold] = [hold(migration(v, draw(TEXTS) or " ")) for v in draw(st.sets(VERSIONS))]
    return Ledger(entries=tuple(entries), holds=tuple(holds), salt="s", occupied=draw(st.sampled_from([0, 2])))


OPTIONS = st.builds(
    PlanOptions,
    to_version=st.one_of(st.none(), VERSIONS),
    include=st.frozensets(VERSIONS, max_size=2),
    settings=st.dictionaries(st.sampled_from(["x", "y"]), st.text(max_size=3)),
)


@given(folders(), ledgers(), OPTIONS)
def test_it_always_answers_with_a_plan_or_with_reasons(files: Folder, book: Ledger, options: PlanOptions) -> None:
    result = plan(files, book, options)
    if isinstance(result, Plan):
        versions = [s.migration.version for s in result.steps]
        assert versions == sorted(versions, key=lambda v: (v is None, v or 0))
        applied = {e.version for e in book.entries if e.version is not None}
        assert not applied & {v for v in versions if v is not None}, "an applied version must never run again"
        newest = max(applied, default=0)
        late = {v for v in versions if v is not None and v < newest}
        assert late <= options.include, "an older version runs only when it was asked for by name"
    else:
        assert result
        assert all(refusal.message for refusal in result)


@given(folders(), OPTIONS)
def test_after_a_plan_was_carried_out_nothing_is_left_to_do(files: Folder, options: PlanOptions) -> None:
    first = plan(files, Ledger(salt="s"), options)
    if not isinstance(first, Plan):
        return
    entries = []
    for step in first.steps:
        made = entry(step.migration)
        fields = {name: getattr(made, name) for name in Entry.__slots__}
        entries.append(Entry(**{**fields, "checksum": step.checksum}))
    second = plan(files, Ledger(entries=tuple(entries), salt="s"), options)
    assert isinstance(second, Plan)
    assert second.steps == ()


@given(folders(), ledgers())
def test_every_file_and_every_entry_has_exactly_one_row(files: Folder, book: Ledger) -> None:
    rows = compare(files, book)
    keys = [(r.version, r.name if r.version is None else "") for r in rows]
    assert len(keys) == len(set(keys))
    wanted = {(m.version, m.name if m.version is None else "") for m in files.migrations}
    wanted |= {(e.version, e.name if e.version is None else "") for e in book.entries}
    assert set(keys) == wanted


@given(folders(), ledgers(), OPTIONS)
def test_the_same_question_has_the_same_answer(files: Folder, book: Ledger, options: PlanOptions) -> None:
    assert plan(files, book, options) == plan(files, book, options)
