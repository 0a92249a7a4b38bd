"""`make screenshots`: the pictures of README and docs, taken with headless Chromium from a real run of the demo.

Nothing in them is made up: the demo's servers, its project, its deploys. They go to docs/images, as small as a palette
makes them. What a version cannot show yet (`lockstep report`) is left out, and said.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from demo.__main__ import CHECKOUT, FOLDER, Demo
from lockstep.cli.main import COMMANDS

if TYPE_CHECKING:
    from PIL import Image
    from playwright.sync_api import Browser, Page

IMAGES = CHECKOUT / "docs" / "images"
LARGEST = 250_000  # bytes of a picture
COLOURS = 128
DESK = (1280, 860)
PHONE = (390, 844)
TIMELINE = 540  # pixels of a run's page, down to the end of its timeline
BARS = 1_500  # green pixels in a timeline that is drawn
PATIENCE = 180_000  # milliseconds for a page to show what it is about


def main() -> int:
    """Take all pictures; return the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    os.environ["LOGNAME"] = "alice"  # who deploys and approves, as the pictures show it
    IMAGES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, FOLDER, ignore_errors=True)
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(mode=0o700)
        browser = stack.enter_context(_chromium())
        demo = Demo(stack)
        demo.start()
        prefect = Prefect(browser, demo)
        demo.first_deploy(meanwhile=prefect.waiting)
        prefect.done()
        demo.broken_deploy()
        demo.changed_by_hand()
        _report(browser, demo)
    return 0


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _chromium() -> Iterator[Browser]:
    """The system's Chromium: nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("screenshots: chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Prefect:
    """Pictures of Prefect's UI: the deploy while it waits, and when it is done."""

    def __init__(self, browser: Browser, demo: Demo) -> None:
        self._browser, self._server = browser, demo.prefect

    def waiting(self) -> None:
        """The run's page while it waits for approval."""
        with self._page() as page:
            self._open(page, f"/runs/flow-run/{self._run()['id']}", awaits="Suspended")
            self._await_timeline(page)
            _save(page, "approval-waiting", height=TIMELINE)

    def done(self) -> None:
        """The run's page when it is done, and two of its artifacts."""
        with self._page() as page:
            self._open(page, f"/runs/flow-run/{self._run()['id']}", awaits="Completed")
            self._await_timeline(page)
            _save(page, "prefect-run", height=TIMELINE)
            for key, awaits in (("rehearsal-prod", "way back"), ("deploy-prod", "004-referral-system")):
                self._open(page, f"/artifacts/artifact/{self._artifact(key)}", awaits=awaits)
                _save(page, f"artifact-{key}")

    @contextmanager
    def _page(self) -> Iterator[Page]:
        context = self._browser.new_context(viewport=_size(DESK), color_scheme="light", locale="en-GB")
        page = context.new_page()
        # The UI asks an analytics host even where analytics are off; nothing leaves this machine.
        page.route("**/*", lambda route: route.continue_() if _here(route.request.url) else route.abort())
        try:
            yield page
        finally:
            context.close()

    def _open(self, page: Page, path: str, *, awaits: str) -> None:
        """Open a page and wait until it shows a text. (It polls for ever, so it is never idle.)"""
        page.goto(f"{self._server.ui_url}{path}", wait_until="domcontentloaded")
        page.get_by_text(awaits).first.wait_for(timeout=PATIENCE)
        page.wait_for_timeout(2_000)

    def _await_timeline(self, page: Page) -> None:
        """Wait until a run's timeline is drawn and stands still. It is a canvas: only its picture tells."""
        from PIL import Image

        before = b""
        for _ in range(60):
            page.wait_for_timeout(3_000)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").crop((272, 160, DESK[0], TIMELINE))
            now = picture.tobytes()
            if now == before and _green(picture) > BARS:
                return
            before = now
        raise SystemExit("screenshots: the timeline of the run was not drawn")

    def _run(self) -> dict[str, Any]:
        (found,) = self._server.post(
            "/flow_runs/filter", {"flows": {"name": {"any_": ["deploy"]}}, "limit": 1, "sort": "START_TIME_DESC"}
        )
        return dict(found)

    def _artifact(self, key: str) -> str:
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
        (found,) = self._server.post("/artifacts/filter", wanted)
        return str(found["id"])


def _report(browser: Browser, demo: Demo) -> None:
    """The status page, by day, by night and on a phone."""
    if "report" not in COMMANDS:
        sys.stderr.write("no pictures of the status page: this version has no `lockstep report`\n")
        return
    file = FOLDER / "status.html"
    command = [sys.executable, "-m", "lockstep", "report", "--html", str(file)]
    subprocess.run(command, cwd=demo.project, env=demo.environ, check=True)
    for name, size, scheme in (("light", DESK, "light"), ("dark", DESK, "dark"), ("phone", PHONE, "light")):
        context = browser.new_context(
            viewport=_size(size),
            color_scheme=scheme,  # type: ignore[arg-type]  # a literal, in the loop above
            device_scale_factor=2 if size is PHONE else 1,
            locale="en-GB",
        )
        page = context.new_page()
        page.goto(file.as_uri())
        page.wait_for_timeout(500)
        _save(page, f"report-{name}")
        context.close()


def _green(picture: Image.Image) -> int:
    """How many pixels are of the colour of a task that is done."""
    raw = picture.tobytes()
    pixels = zip(raw[::3], raw[1::3], raw[2::3], strict=True)
    return sum(green > red + 60 and green > blue + 40 for red, green, blue in pixels)


def _size(size: tuple[int, int]) -> Any:
    return {"width": size[0], "height": size[1]}


def _here(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def _save(page: Page, name: str, *, height: int | None = None) -> None:
    """Keep what the page shows, or its upper part, as docs/images/NAME.png, in a palette of its own."""
    from PIL import Image

    picture: Image.Image = Image.open(io.BytesIO(page.screenshot()))
    if height is not None:
        picture = picture.crop((0, 0, picture.width, height))
    small = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    file = IMAGES / f"{name}.png"
    small.save(file, optimize=True)
    sys.stderr.write(f"{file.relative_to(CHECKOUT)}  {file.stat().st_size / 1000:.0f} kB\n")
    if file.stat().st_size > LARGEST:
        raise SystemExit(f"{file} is larger than {LARGEST / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
