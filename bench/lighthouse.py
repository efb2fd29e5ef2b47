"""Measures the gallery with Lighthouse and by scrolling: / and /gallery through nginx, with 200 real walks in it.

    python bench/lighthouse.py

One deployment renders ORIGINALS walks; a second one shows WALKS copies of them, each with another seed, written to
catalogue and bucket as the studio would. Scores are medians of RUNS runs on Lighthouse's simulated slow phone.
Then CARDS cards are loaded and scrolled through: milliseconds between two screen refreshes (16.7 is the minimum), drawn
by this machine's CPU.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Page

from tests.support.browser import CHROMIUM, QUIET, browser
from tests.support.deployment import deployed
from tests.support.finished_walks import StopsAndFrames
from tests.support.gallery import BUDGETS, loaded_at_first, sent
from tests.support.gallery_deployment import DIST, GalleryDeployment, build_gallery, deployed_gallery
from tests.support.processes import REPOSITORY

LIGHTHOUSE = "lighthouse@12.8.2"
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
AUDITS = ("largest-contentful-paint", "total-blocking-time", "cumulative-layout-shift", "total-byte-weight")
RUNS, ORIGINALS, WALKS, CARDS, FRAMES = 3, 8, 200, 1000, 13
CARD = "ul[aria-label=Walks] > li:not(.placeholder)"
# Down and up again, one wheel notch per screen refresh.
SCROLL = """async () => {
  const times = [], notch = 120;
  let before = performance.now(), step = notch;
  while (true) {
    scrollBy(0, step);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - before);
    before = now;
    if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) step = -notch;
    if (step < 0 && scrollY <= 0) return times.slice(1);
  }
}"""


def originals(folder: Path) -> list[StopsAndFrames]:
    """Real walks between the model card's examples, with their frames."""
    walks = []
    with deployed(folder, proxied=False) as deployment:
        card = json.loads(deployment.fetch("/api/v1/model"))["card"]
        for start, end in card["about"]["examples"][:ORIGINALS]:
            walk = deployment.ended(deployment.request_walk(start=start, end=end, frames=FRAMES, spacing="uniform"))
            frames = [deployment.fetch(f"{walk['url']}/frames/{frame}.png") for frame in range(FRAMES)]
            walks.append(((start, end), frames))
    return walks


def lighthouse(url: str, folder: Path) -> dict[str, float]:
    """One run. Returns scores from 0 to 100, and the values of the audits."""
    out = folder / "report.json"
    flags = " ".join(("--headless=new", *QUIET))
    command = ["npm", "exec", "--yes", "--", LIGHTHOUSE, url, "--quiet", f"--chrome-flags={flags}"]
    command += ["--output=json", f"--output-path={out}", f"--only-categories={','.join(CATEGORIES)}"]
    path = f"{REPOSITORY / '.venv' / 'node'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "CHROME_PATH": str(CHROMIUM)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    report = json.loads(out.read_text())
    _print_failed_audits(report)
    scores = {name: 100 * report["categories"][name]["score"] for name in CATEGORIES}
    return scores | {name: report["audits"][name]["numericValue"] for name in AUDITS}


def _print_failed_audits(report: dict) -> None:
    """Print audits that cost points to standard error."""
    for name in CATEGORIES:
        for reference in report["categories"][name]["auditRefs"]:
            audit = report["audits"][reference["id"]]
            if reference["weight"] and (audit["score"] or 0) < 0.9 and audit["scoreDisplayMode"] != "notApplicable":
                print(f"  {name}: {audit['id']} {audit.get('displayValue', '')}", file=sys.stderr)


def judge(deployment: GalleryDeployment, folder: Path) -> None:
    for path in ("/", "/gallery"):
        runs = [lighthouse(deployment.url + path, folder) for _ in range(RUNS)]
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        print(f"{path:10}" + "   ".join(f"{name} {middle[name]:.0f}" for name in CATEGORIES))
        paint, blocked, shift, weight = (middle[name] for name in AUDITS)
        print(
            f"{'':10}LCP {paint:.0f} ms   TBT {blocked:.0f} ms   CLS {shift:.3f}   {weight / 1024:.0f} KB", flush=True
        )


def load_all(page: Page) -> int:
    """Load pages until there are CARDS cards. Returns how many there are."""
    cards = page.locator(CARD)
    while (count := cards.count()) < CARDS:
        cards.last.scroll_into_view_if_needed()
        more = page.get_by_role("button", name="Load more")
        if more.count():
            more.click()
        page.wait_for_function("([card, count]) => document.querySelectorAll(card).length > count", arg=[CARD, count])
    return count


def scroll(deployment: GalleryDeployment) -> None:
    with browser() as running:
        page = running.new_page(viewport={"width": 1280, "height": 800})
        page.goto(deployment.url + "/gallery")
        count = load_all(page)
        page.evaluate("() => scrollTo(0, 0)")
        page.wait_for_load_state("networkidle")
        times = sorted(page.evaluate(SCROLL))
    at = {name: times[int(share * (len(times) - 1))] for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))}
    print(
        f"{count} cards, {len(times)} frames: " + "   ".join(f"{name} {ms:.1f} ms" for name, ms in at.items()), end=""
    )
    print(f"   longest {times[-1]:.1f} ms")


def main() -> None:
    build_gallery()
    for ending, most in BUDGETS.items():
        size = sum(map(sent, loaded_at_first(DIST, ending)))
        print(f"{ending:6} {size / 1024:5.1f} KB of {most / 1024:.0f}")
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("originals", "gallery", "many")]
        for folder in folders:
            folder.mkdir()
        real = originals(folders[0])
        walks = [real[at % len(real)] for at in range(WALKS)]
        with deployed_gallery(folders[1], walks) as deployment:
            judge(deployment, folders[1])
        few = [(stops, frames[:: FRAMES - 1]) for stops, frames in real]
        with deployed_gallery(folders[2], [few[at % len(few)] for at in range(CARDS)]) as deployment:
            scroll(deployment)


if __name__ == "__main__":
    main()
