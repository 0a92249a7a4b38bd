"""The benchmark still works: tiny workloads, without the peers. It proves nothing about speed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from bench import backups, fingerprint, warehouse, workloads
from bench.aims import judged
from bench.figures import BEGIN, END, NoFigures, rewrite
from bench.measuring import CommandFailed, Database, Sample, address
from bench.migrations import TABLES, TABLES_BOTH_WAYS
from bench.peers import TOOLS
from bench.places import PAGE
from bench.proxy import DelayProxy, round_trip
from bench.report import report
from bench.results import Results, Unlike, load
from bench.tools import FLOOR, LOCKSTEP, Tool
from bench.workloads import Bench, Sizes
from demo.s3server import S3Server
from lockstep.postgres.throwaway import ThrowawayServer

TINY = Sizes(
    small=12, large=14, curve=(2, 3), few=2, long=1, far=1, short=1, large_short=1, reverts=1, tables=(2, 3),
    others_long=1, others_short=1,
)  # fmt: skip
ABSENT = replace(FLOOR, name="nobody", needs=("no-such-program",), remedy="apt-get install it")


def sample(wall: float, cpu: float = 0.1) -> Sample:
    return Sample(wall=wall, cpu=cpu, server_cpu=0.1, memory=50 * 2**20, trips=2)


def measured() -> Results:
    """Results as of a whole run, of round numbers."""
    made = Results(tools={"lockstep": "lockstep 1", "floor": "floor: psycopg", "dbmate": "dbmate 2", "yoyo": "yoyo 9"})
    made.sizes = {"small": 1_000, "large": 10_000}
    made.absent = {"sqitch": "sqitch not found; apt-get install sqitch"}
    for workload, seconds in {
        "from empty, on disk": (1.0, 0.5, 2.0, 9.0),
        "from empty, 1,000 one-line changes": (1.0, 0.5, 2.0, 9.0),
        "from empty, 10,000 one-line changes": (9.0, 4.5, 20.0),
        "no-op, 1,000 applied": (0.2, 0.1, 0.02, 0.3),
        "no-op, 10,000 applied": (0.5, 0.2, 0.02),
        "from empty, 5 ms away": (6.0, 5.0, 40.0),
        "from empty, 100 migrations, 5 ms away": (0.9, 0.8, 4.0, 7.0),
        "status, a schema of 50 tables": (0.2, 0.1),
        "status, a schema of 5,000 tables": (0.3, 0.1),
    }.items():
        for tool, wall in zip(made.tools, seconds, strict=False):
            made.add(workload, tool, sample(wall), sample(wall), sample(30 * wall))  # an outlier moves no median
    return made


def test_the_aims_are_judged_from_medians() -> None:
    rows = {aim: (figures, met) for aim, figures, met in judged(measured())}
    assert rows["from empty, on disk: at most 0.75 × dbmate"] == ("0.50 × (1.00 s and 2.00 s)", "yes")
    assert rows["from empty, on disk: at most 1.15 × floor"][1] == "no"
    assert rows["from empty, 5 ms away: at most 0.25 × dbmate"][1] == "yes"
    assert rows["no-op, 1,000 applied: at most 1.3 × floor"] == ("2.00 × (0.200 s and 0.100 s)", "no")
    # dbmate is faster here; but it is native code.
    assert rows["no-op, 1,000 applied: less time than every peer that is not native code"][1] == "yes"
    assert rows["no-op: 10,000 applied at most 2.5 × 1,000"] == ("2.50 × (0.500 s and 0.200 s)", "yes")
    assert rows["from empty, on disk: less client and server CPU than every peer"] == (
        "0.20 s; ahead of us: dbmate 0.20 s, yoyo 0.20 s", "no",
    )  # fmt: skip


def test_figures_and_chart_come_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    page, chart = tmp_path / "docs/page.md", tmp_path / "docs/images/bench.png"
    page.parent.mkdir()
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    rewrite(measured(), page, chart)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}![") and text.endswith(f"{END}after\n") and "old" not in text
    assert "](images/bench.png)" in text and chart.read_bytes().startswith(b"\x89PNG")
    assert "left out: sqitch (sqitch not found; apt-get install sqitch)" in text
    assert "| from empty | dbmate | 2.00 | 20.00 |" in text and "| status | lockstep | 0.200 | 0.300 |" in text
    assert "| from empty, on disk | 0.50 | 2.00 | 9.00 |" in text  # how many times as long
    page.write_text("no markers")
    with pytest.raises(NoFigures):
        rewrite(measured(), page, chart)


def test_the_page_has_the_markers() -> None:
    assert PAGE.read_text().count(BEGIN) == PAGE.read_text().count(END) == 1


def test_parts_that_are_measured_again_replace_what_they_measured_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "kept/results.json"
    measured().save(file)
    kept = load(file)
    assert kept == measured()
    again = Results(sizes=measured().sizes, tools={"sqitch": "sqitch 1"})
    again.add("from empty, on disk", "dbmate", sample(3.0))
    again.add("from empty, on disk", "sqitch", sample(27.0))
    kept.merge(again)
    assert [s.wall for s in kept.samples["from empty, on disk"]["dbmate"]] == [3.0]
    assert kept.samples["from empty, on disk"]["lockstep"] == measured().samples["from empty, on disk"]["lockstep"]
    assert kept.absent == {} and "sqitch" in kept.tools
    with pytest.raises(Unlike):
        kept.merge(Results(sizes={"small": 40, "large": 60}))


def test_a_peer_that_is_not_there_says_how_it_comes() -> None:
    assert ABSENT.missing() == "no-such-program not found; apt-get install it"
    assert LOCKSTEP.missing() is None and FLOOR.missing() is None


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_one_more_migration_changes_none_that_is_there(tool: Tool, tmp_path: Path) -> None:
    tool.lay_out(tmp_path, 1, 3, TABLES_BOTH_WAYS)
    before = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    tool.lay_out(tmp_path, 4, 4, TABLES_BOTH_WAYS)
    after = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert len(after) > len(before)
    assert [file for file, text in before.items() if not after[file].startswith(text)] == []
    whole = "\n".join(after.values())
    for number in range(1, 5):
        assert TABLES.up(number).strip() in whole


def test_memory_and_cpu_are_those_of_a_command_and_of_what_it_started(server: ThrowawayServer, tmp_path: Path) -> None:
    place = Database(tool=FLOOR, folder=tmp_path, server=server, name="postgres", port=server.port)
    hungry = "x = bytearray(200 * 2**20); x[::4096] = b'1' * len(x[::4096])"
    taken = place.call(("sh", "-c", f'{sys.executable} -c "{hungry}"; true'))
    assert 200 * 2**20 < taken.memory < 300 * 2**20 and taken.cpu > 0.01
    small = place.call(("true",))
    assert small.memory < 40 * 2**20  # not what this process holds


def test_the_bench_says_what_it_can_without_measuring() -> None:
    shown = subprocess.run((sys.executable, "-m", "bench", "--help"), capture_output=True, text=True, check=True)
    assert "--only" in shown.stdout and "schemas" in shown.stdout


@pytest.mark.slow
def test_the_benchmark_measures_and_reports(server: ThrowawayServer, tmp_path: Path) -> None:
    bench = Bench(tools=(LOCKSTEP, FLOOR), sizes=TINY, folder=tmp_path, say=lambda _: None)
    bench.results.tools = {"lockstep": "lockstep", "floor": "floor"}
    bench.results.sizes = {"small": TINY.small, "large": TINY.large}
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE bench_reader")
    places = workloads.from_empty(bench, server, "from empty, on disk")
    workloads.reading(bench, places, TINY.small, 1)
    workloads.two_environments(bench, places, TINY.small)
    workloads.reverting(bench, server)
    workloads.curve(bench, server)
    workloads.schemas(bench, server)
    workloads.far_away(bench, server, 0.002)
    far = bench.results.samples["from empty, 2 ms away"]
    assert far["lockstep"][0].trips > TINY.small < far["floor"][0].trips
    text = report(bench.results)
    for start in (
        "| from empty, on disk |", "| one pending, 12 applied |", "| two environments, one pending in both |",
        "| revert 10 of 12 |", "| one pending | lockstep |", "| from empty | floor |",
        "| from empty, on disk: at most 1.15 × floor |",
    ):  # fmt: skip
        assert start in text


@pytest.mark.slow
def test_a_peer_that_breaks_is_left_out_and_named(server: ThrowawayServer, tmp_path: Path) -> None:
    broken = replace(FLOOR, name="broken", core=False, apply=("false",))
    bench = Bench(tools=(FLOOR, broken), sizes=TINY, folder=tmp_path, say=lambda _: None)
    places = workloads.from_empty(bench, server, "from empty, on disk")
    assert set(places) == {"floor"} and bench.results.absent == {"broken": "broken: false ended with 1:"}
    with pytest.raises(CommandFailed, match="13 expected"):
        places["floor"].expect(TINY.small + 1)


@pytest.mark.slow
def test_the_benchmark_of_backups_measures_and_reports(server: ThrowawayServer) -> None:
    warehouse.make(server, 1)
    try:
        with S3Server() as store, ExitStack() as stack:
            store.make_bucket(backups.BUCKET)
            cases = backups.backup_cases(server, store, stack)
            taken = {name: [case()] for name, case in cases.items()}
    finally:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {warehouse.NAME} WITH (FORCE)")
    one = backups.Taken(wall=2.0)
    names = (backups.BY_HAND, backups.STREAMED, backups.BY_HAND_TWO, backups.FETCHED, backups.PROVEN)
    text = backups.report(taken, {name: [one] for name in names}, ["a note"])
    assert f"| {backups.OURS} |" in text and f"| {backups.FETCHED} | 2.0 s | 1.00 |" in text
    ours, nowhere = taken[backups.OURS][0], taken[backups.NOWHERE][0]
    assert ours.size == nowhere.size > 100_000
    assert 20 * backups.MIB < (ours.memory or 0) < backups.MEMORY_AIM


def test_the_proxy_holds_back_each_way(server: ThrowawayServer) -> None:
    with DelayProxy(server.port, 0.003) as proxy:
        assert round_trip(address(server, "postgres", proxy.port), tries=5) >= 0.006
        assert proxy.trips >= 5


@pytest.mark.slow
def test_the_benchmark_of_fingerprints_measures_and_reports(server: ThrowawayServer) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE bench_reader")
        try:
            measured = fingerprint.measure(server, 6, 1)
        finally:
            admin.execute("DROP DATABASE bench_6 WITH (FORCE)")
            admin.execute("DROP ROLE bench_reader")
    assert measured.objects > 6 * 20
    assert "| 6 |" in fingerprint.report([measured])
