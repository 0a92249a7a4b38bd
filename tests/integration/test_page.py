"""The page that `report` writes, of a project whose texts are hostile, taken apart and looked at in a real browser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lockstep.postgres.throwaway import ThrowawayServer, free_port
from tests.project import Project

EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
NAME = '"onload="alert(2) ]]></style><script>alert(3)</script>\'{{7*7}}'  # 63 bytes are a name's most
ROW = "</td></tr></table><svg/onload=alert(6)>"  # in a row of the ledger that somebody else wrote
TURNED = "invoice\u202egpj.exe\x1b[2Jend"


@dataclass(frozen=True)
class Written:
    """The page, and the project that it is of."""

    file: Path
    project: Project
    out: str


@pytest.fixture(scope="module")
def written(server: ThrowawayServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    """A project with hostile names and reasons everywhere, one environment of it unreachable."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "migrations").mkdir()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE page")
    gone = f"postgresql://nobody:s3cr3t-nobody@127.0.0.1:{free_port()}/gone"
    project = Project(folder=folder, urls={"dev": server.url("page"), "far": gone})
    project.toml = f'[project]\ncontacts = ["ops@example.com", {EVIL!r}]\nrunbook = "javascript:alert(4)"\n'
    project.configure(far='after = ["dev"]\nprotected = false')
    project.write("001-first.sql", "CREATE TABLE public.first (id int PRIMARY KEY);")
    project.write("002-<img src=x onerror=alert(5)>.sql", "CREATE TABLE public.second (id int);")
    assert project.run("init", "dev").code == 0
    assert project.run("sync", "dev").code == 0
    project.query("CREATE TABLE public.by_hand (id int)")
    assert project.run("drift", "dev", "--accept", EVIL).code == 0
    for name in (NAME, TURNED):
        project.query('CREATE TABLE public."{}" (id int)'.format(name.replace('"', '""')))
    project.query(f"INSERT INTO schema_migrations (migration_name, version) VALUES ('007-{ROW}.sql', 7)")
    project.query(
        f"INSERT INTO schema_migrations_log (event, actor, host, run_id) VALUES ('repair', '{ROW}', '{ROW}', '{ROW}')"
    )
    project.write("003-later.sql", "SELECT 1;")
    file = folder / "page.html"
    done = project.run("report", "--html", str(file))
    assert done.code == 0, done.err
    yield Written(file, project, done.out)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE page WITH (FORCE)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def seen(browser: Browser, written: Written) -> Iterator[tuple[Page, list[str]]]:
    """The page on a phone, and everything that should not happen."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    events: list[str] = []
    page.on("console", lambda message: events.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: events.append(f"error: {error}"))

    def dialog(found: Any) -> None:
        events.append(f"dialog: {found.message}")
        found.dismiss()

    page.on("dialog", dialog)
    page.on("request", lambda request: events.append(f"request: {request.url}"))
    page.goto(written.file.as_uri())
    page.wait_for_timeout(300)
    yield page, events
    context.close()


def test_hostile_text_is_no_markup_of_the_page(written: Written) -> None:
    """Without a browser: what a parser of HTML finds in it is what the template says, and nothing else."""
    tags, attributes, texts = Counter[str](), set[str](), list[str]()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags[tag] += 1
            attributes.update(name for name, _ in attrs)

        def handle_data(self, data: str) -> None:
            texts.append(data)

    Reader().feed(written.file.read_text())
    assert not {"script", "img", "iframe", "object", "embed", "base", "form", "video"} & set(tags)
    assert tags["style"] == 1 and tags["meta"] >= 1 and tags["table"] >= 1
    assert not [name for name in attributes if name.startswith("on") or name in {"style", "src"}]
    said = "".join(texts)
    assert EVIL in said and NAME in said and said.count(ROW) >= 2 and "invoice\\u202egpj.exe\\x1b[2Jend" in said


@pytest.mark.chromium
def test_hostile_text_stays_text_and_nothing_leaves_the_page(seen: tuple[Page, list[str]], written: Written) -> None:
    page, events = seen
    assert events == [f"request: {written.file.as_uri()}"]
    assert page.title().startswith(f"{written.project.folder.name}: ")
    assert page.locator("script, iframe, object, embed, base, form, img, video").count() == 0
    markup = written.file.read_text()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", markup)
    assert page.evaluate("[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => /^on|^style$/.test(a.name))).length") == 0  # fmt: skip
    assert set(page.evaluate("[...document.querySelectorAll('[href]')].map(a => a.getAttribute('href')[0])")) <= {
        "#",
        "d",
    }
    text = page.locator("body").inner_text()
    assert EVIL in text and "<img src=x onerror=alert(5)>" in text and NAME in text
    assert "invoice\\u202egpj.exe\\x1b[2Jend" in text
    assert "s3cr3t-nobody" not in markup and "s3cr3t-nobody" not in written.out


@pytest.mark.chromium
def test_the_first_screen_answers_and_says_what_could_not_be_read(
    seen: tuple[Page, list[str]], written: Written
) -> None:
    page, _ = seen
    answers = page.locator(".answer")
    assert [answers.nth(number).locator("h3").text_content() for number in range(3)] == [
        "In step? ✕No", "Proven? ✓Yes", "Healthy? ✕No",  # this server does without fsync
    ]  # fmt: skip
    assert answers.last.bounding_box()["y"] < 740  # type: ignore[index]
    row = page.locator("#environments tbody tr", has=page.locator("th", has_text="far"))
    assert "not reached" in row.inner_text()
    assert "far" in page.locator("#todo").inner_text()
    assert oct(written.file.stat().st_mode & 0o777) == "0o600"


@pytest.mark.chromium
def test_it_reads_on_a_phone_in_the_dark_and_in_print(seen: tuple[Page, list[str]]) -> None:
    page, _ = seen
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for media, scheme in (("screen", "light"), ("screen", "dark"), ("print", "dark")):
        page.emulate_media(media=media, color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(f"({CONTRAST})()") == [], (media, scheme)
    page.set_viewport_size({"width": 700, "height": 1000})  # A4 within its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    wide = (
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"
    )
    assert page.evaluate(wide) == []  # on paper nobody can scroll


@pytest.mark.chromium
def test_a_screen_reader_finds_its_way(seen: tuple[Page, list[str]]) -> None:
    page, _ = seen
    assert page.locator("html").get_attribute("lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert page.locator(f"body > {landmark}").count() == 1
    assert page.locator("table").count() == page.locator("table > caption").count() > 5
    assert page.locator("th:not([scope])").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    pointed = page.evaluate(
        "[...document.querySelectorAll('[aria-labelledby]')].flatMap(e => e.getAttribute('aria-labelledby').split(' '))"
        ".concat([...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1)))"
    )
    assert set(pointed) <= set(ids)
    assert page.locator("svg[role=img] > title").count() == page.locator("svg").count() > 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


#: Texts whose contrast to what is behind them is below 4.5:1, as WCAG 2 computes it.
CONTRAST = """() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const lum = c => { const f = c.slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const behind = e => { for (let n = e; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor);
    if (c.length < 4 || c[3] > 0.99) return c; } return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), inSvg = e instanceof SVGElement;
    if (inSvg && e.tagName !== 'text') continue;
    const a = lum(parse(inSvg ? style.fill : style.color)), b = lum(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(e.tagName + '.' + e.getAttribute('class') + ' ' + ratio.toFixed(2));
  }
  return [...new Set(found)];
}"""
