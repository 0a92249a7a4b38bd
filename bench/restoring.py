"""One restore in a process of its own: `python -m bench.restoring ENDPOINT BUCKET HOW`, the address in DATABASE_URL.

HOW: `one` transaction, `two` sessions, or `proven` (all that `lockstep restore` does). Prints what it took as JSON,
without pg_restore's own.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from datetime import UTC, datetime

import psycopg

from bench.taking import peak_memory
from lockstep.core.address import parse_address
from lockstep.postgres.connection import Target
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.pgrestore import RestoreOptions
from lockstep.service.filling import StoredBackup, fill
from lockstep.service.progress import Silent
from lockstep.service.restoring import RestoreChoices, restore
from lockstep.storage.backups import Backups
from lockstep.storage.bucket import Bucket, BucketSettings


def main(endpoint: str, url: str, how: str) -> None:
    address = os.environ["DATABASE_URL"]
    with Bucket(BucketSettings(url=url, endpoint_url=endpoint)) as bucket:
        backups = Backups(bucket)
        manifest = backups.resolve("latest", None, datetime.now(UTC))
        backup = StoredBackup(bucket=bucket, manifest=manifest, contents=backups.contents(manifest), identity=None)
        if how == "proven":
            into = Target(environment="copy", address=parse_address(address))
            restore(backup, into, RunInfo(run_id="20260101-000000-beef"), Silent(), RestoreChoices())
        else:
            jobs = {"one": 1, "two": 2}[how]
            with psycopg.connect(address, autocommit=True) as connection:
                fill(backup, connection, RestoreOptions(), target="bench", atomic=jobs == 1, jobs=jobs)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"size": manifest.size, "cpu": used.ru_utime + used.ru_stime, "memory": peak_memory()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
