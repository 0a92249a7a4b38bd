"""One backup in a process of its own: `python -m bench.taking ENDPOINT BUCKET RUN`, the address in DATABASE_URL.

Prints what it took as JSON. Its own CPU and memory, without pg_dump's; a child's `getrusage` would count the memory of
whoever started it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path

from lockstep.service.backup import back_up
from lockstep.storage.bucket import BucketSettings


def main(endpoint: str, bucket: str, run: str) -> None:
    report = back_up(
        target="bench",
        environment="bench",
        conninfo=os.environ["DATABASE_URL"],
        bucket=BucketSettings(url=bucket, endpoint_url=endpoint),
        run_id=run,
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"size": report.manifest.size, "cpu": used.ru_utime + used.ru_stime, "memory": peak_memory()}
    sys.stdout.write(json.dumps(found) + "\n")


def peak_memory() -> int:
    """Bytes of memory that this process had at most, libraries included."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
