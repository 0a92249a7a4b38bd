"""Where the page goes: a file that is replaced whole, an object with its type, and rights given to nobody."""

from __future__ import annotations

from pathlib import Path

from tests.integration.backup.store import Store
from tests.project import Project


def test_a_file_is_replaced_whole_and_is_its_owners(project: Project, tmp_path: Path) -> None:
    project.write("001-a.sql", "CREATE TABLE a (id int);")
    file = tmp_path / "site" / "page.html"
    assert project.run("report", "--html", str(file)).code == 2  # no such folder, and nothing was looked at
    file.parent.mkdir()
    done = project.run("report", "--html", str(file), "--json")
    assert done.code == 0 and done.document["size"] == file.stat().st_size
    lights = [one["light"] for one in done.document["answers"]]
    assert lights[:2] == ["note", "good"]  # there is no ledger yet, and nothing is protected
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    link = file.with_name("link.html")
    link.symlink_to(file)
    assert project.run("report", "--html", str(link), "dev").code == 0
    assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o644
    assert sorted(one.name for one in file.parent.iterdir()) == ["link.html", "page.html"]  # nothing half-written


def test_an_object_is_put_with_its_type_and_the_configured_place_is_used(project: Project, store: Store) -> None:
    url = store.settings.url
    project.toml = f'[backup]\nbucket = "{url}"\nendpoint_url = "{store.settings.endpoint_url}"\n'
    project.toml += f'[report]\nhtml = "{url}/page.html"\n'
    project.configure()
    done = project.run("report")
    assert done.code == 0, done.err
    assert f"written: {url}/page.html" in done.out
    head = store.client.head_object(Bucket=store.settings.name, Key=f"{store.settings.prefix}page.html")
    assert head["ContentType"] == "text/html; charset=utf-8" and head["CacheControl"] == "private, no-cache"
    assert project.run("report").code == 0  # over the former one
    dump = f"{store.settings.prefix}dev/20261130T024434Z-r/database.dump"
    store.client.put_object(Bucket=store.settings.name, Key=dump, Body=b"PGDMP")
    over = project.run("report", "--html", f"s3://{store.settings.name}/{dump}")
    assert over.code == 2 and "lies among the backups" in over.err
    assert store.client.get_object(Bucket=store.settings.name, Key=dump)["Body"].read() == b"PGDMP"
    refused = project.run("report", "--html", "s3://no-such-bucket-here/page.html")
    assert refused.code in (7, 8) and "no-such-bucket-here" in refused.err
