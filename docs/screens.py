"""Screenshots of the gallery for the documents, with a real browser and a real deployment: `make pictures`.

gallery.webp, walk-page.webp: the gallery and a walk; phone.webp: the same walk on a phone, in the dark theme. Needs the
walks that pictures.py makes.
"""

import io
import shutil
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from momalisa_api.cli.up import deployment

DOCS = Path(__file__).parent
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
QUIET = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SAFE_ALONE = ["--no-sandbox", "--disable-gpu"]


def keep(page: Page, name: str) -> None:
    """Save what a page shows once all of its pictures are loaded."""
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").save(DOCS / name, quality=85, method=6)
    print(name)


def main() -> None:
    with deployment("http://127.0.0.1:8000", start=True) as url, sync_playwright() as playwright:
        found = httpx.get(url + "/api/v1/walks?limit=100").json()["walks"]
        done = [walk for walk in found if walk["state"] == "done" and walk["spec"]["spacing"] == "even"]
        if not done:
            raise SystemExit("There is no walk in the gallery yet. Run docs/pictures.py first.")
        walk = done[-1]["url"].removeprefix("/api/v1")
        chromium = shutil.which("chromium")
        with playwright.chromium.launch(executable_path=chromium, args=[*SAFE_ALONE, *QUIET]) as browser:
            page = browser.new_page(viewport=WIDE)
            page.goto(url + "/gallery")
            keep(page, "gallery.webp")
            page.goto(url + walk)
            page.get_by_role("slider").press("Home")
            for _ in range(11):
                page.get_by_role("slider").press("ArrowRight")
            keep(page, "walk-page.webp")
            # A finished walk plays by itself; with reduced motion it shows its first frame.
            look = {"color_scheme": "dark", "device_scale_factor": 2, "reduced_motion": "reduce"}
            page = browser.new_page(viewport=PHONE, **look)
            page.goto(url + walk)
            keep(page, "phone.webp")


if __name__ == "__main__":
    main()
