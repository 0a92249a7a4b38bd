"""What backup tests look at: the bucket behind the product's back, and the processes that the product started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mypy_boto3_s3 import S3Client

from lockstep.storage.bucket import BucketSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A fresh folder of a bucket."""

    settings: BucketSettings  # its prefix is the folder
    client: S3Client

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def prefix(self) -> str:
        return self.settings.prefix

    def stored(self) -> list[str]:
        objects = self.client.list_objects_v2(Bucket=self.name, Prefix=self.prefix).get("Contents", ())
        return [item["Key"] for item in objects]

    def unfinished(self) -> list[str]:
        uploads = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())
        return [item["Key"] for item in uploads if item["Key"].startswith(self.prefix)]

    def read(self, key: str) -> bytes:
        with self.client.get_object(Bucket=self.name, Key=key)["Body"] as body:
            return body.read()

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def assert_empty(self) -> None:
        assert self.stored() == []
        assert self.unfinished() == []


def children(parent: int, name: str) -> Iterator[int]:
    """Ids of the direct child processes of `parent` that run the program `name`."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            comm, rest = (folder / "stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
        except (OSError, IndexError):
            continue
        if comm == name and int(rest.split()[1]) == parent:
            yield int(folder.name)


def pg_dump_pid() -> int:
    """Our one running pg_dump."""
    (pid,) = children(os.getpid(), "pg_dump")
    return pid


def assert_no_pg_dump() -> None:
    assert list(children(os.getpid(), "pg_dump")) == []
