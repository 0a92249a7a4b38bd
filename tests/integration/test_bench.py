"""The benchmark still works: one tiny workload, without the peers. It proves nothing about speed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from bench import backups, fingerprint, warehouse, workloads
from bench.measuring import address
from bench.proxy import DelayProxy, round_trip
from bench.report import report
from bench.tools import FLOOR, LOCKSTEP
from bench.workloads import Bench, Sizes
from demo.s3server import S3Server
from lockstep.postgres.throwaway import ThrowawayServer

TINY = Sizes(small=6, large=6, long=1, far=1, short=1, large_short=1)


@pytest.mark.slow
def test_the_benchmark_measures_and_reports(server: ThrowawayServer, tmp_path: Path) -> None:
    bench = Bench(tools=(LOCKSTEP, FLOOR), sizes=TINY, folder=tmp_path, say=lambda _: None)
    places = workloads.from_empty(bench, server, "from empty, on disk")
    workloads.reading(bench, places, 6, 1)
    workloads.far_away(bench, server, 0.002)
    far = bench.results.samples["from empty, 2 ms away"]
    assert far["lockstep"][0].trips > 6 < far["floor"][0].trips
    text = report(bench.results, bench.tools, ["a note"])
    assert "| from empty, on disk |" in text and "| one pending, 6 applied |" in text and "≤ 1.15 × floor" in text


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
