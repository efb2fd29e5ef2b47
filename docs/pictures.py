"""Makes the pictures of the documents with a real deployment: `make pictures`.

walk.gif and walk-2.gif: two walks. even.webp: ten walks, uniform above even; below each gap between two frames a bar as
high as the step is large. even.gif: three of them. `python -m atelier.sheet` makes painter.png and atelier.png.
"""

import io
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw

from momalisa_api.cli.up import deployment
from momalisa_api.films import films
from momalisa_api.walks.smoothness import distance

DOCS = Path(__file__).parent
FRAMES, SEED = 25, 1
GAP_PX = 4
COMPARED, SMALL_PX, BAR_PX, FILM_PX = 10, 56, 20, 96
INK = "#c8102e"


def make_walk(client: httpx.Client, start: str, end: str, spacing: str = "even") -> dict[str, Any]:
    """A finished walk."""
    request = {"start": start, "end": end, "frames": FRAMES, "seed": SEED, "spacing": spacing}
    # The gallery shows one walk of each pair, which screens.py photographs.
    request["listed"] = spacing == "even"
    walk: dict[str, Any] = client.post("/api/v1/walks", json=request).json()
    while walk["state"] not in ("done", "failed"):
        time.sleep(0.2)
        walk = client.get(walk["url"]).json()
    if walk["state"] == "failed":
        raise SystemExit(f"{start} -> {end}: {walk['error']}")
    print(f"{start} -> {end}, {spacing}: evenness {walk['smoothness']['evenness']}")
    return walk


def frames_of(client: httpx.Client, walk: dict[str, Any]) -> list[Image.Image]:
    frames = [client.get(f"{walk['url']}/frames/{index}.png").content for index in range(FRAMES)]
    return [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]


def strip(frames: list[Image.Image], largest: float) -> Image.Image:
    """All frames in a row, and below each gap a bar as high as the step is large."""
    sheet = Image.new("RGB", (len(frames) * SMALL_PX, SMALL_PX + BAR_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for column, frame in enumerate(frames):
        sheet.paste(frame.resize((SMALL_PX, SMALL_PX), Image.Resampling.LANCZOS), (column * SMALL_PX, 0))
    for column, (one, other) in enumerate(pairwise(frames), 1):
        high = round((BAR_PX - GAP_PX) * distance(one, other) / largest)
        at, foot = column * SMALL_PX, SMALL_PX + BAR_PX - 3
        draw.rectangle((at - 6, foot - high, at + 6, foot), fill=INK)
    return sheet


def comparison(pairs: list[tuple[list[Image.Image], list[Image.Image]]]) -> Image.Image:
    """Uniform above even for each walk; both of a pair have the same scale."""
    high = 2 * (SMALL_PX + BAR_PX) + 4 * GAP_PX
    sheet = Image.new("RGB", (FRAMES * SMALL_PX, len(pairs) * high), "white")
    for row, pair in enumerate(pairs):
        largest = max(distance(one, other) for frames in pair for one, other in pairwise(frames))
        for place, frames in enumerate(pair):
            sheet.paste(strip(frames, largest), (0, row * high + place * (SMALL_PX + BAR_PX)))
    return sheet


def side_by_side(pairs: list[tuple[list[Image.Image], list[Image.Image]]], out: Path) -> None:
    """A GIF of some walks: uniform above even."""
    side = FILM_PX
    size = (len(pairs) * (side + GAP_PX) - GAP_PX, 2 * side + GAP_PX)
    pages = []
    for index in range(FRAMES):
        page = Image.new("RGB", size, "white")
        for column, pair in enumerate(pairs):
            for row, frames in enumerate(pair):
                small = frames[index].resize((side, side), Image.Resampling.LANCZOS)
                page.paste(small, (column * (side + GAP_PX), row * (side + GAP_PX)))
        held = io.BytesIO()
        page.save(held, "PNG")
        pages.append(held.getvalue)
    films.make_gif(pages, out, films.FilmOptions(frame_ms=80, there_and_back=True), "")


def main() -> None:
    with deployment("http://127.0.0.1:8000", start=True) as url, httpx.Client(base_url=url, timeout=60) as client:
        examples = client.get("/api/v1/model").json()["card"]["about"]["examples"]
        for (start, end), name in zip(examples, ("walk.gif", "walk-2.gif"), strict=False):
            walk = make_walk(client, start, end)
            (DOCS / name).write_bytes(client.get(f"{walk['url']}/walk.gif").content)
        pairs = []
        for start, end in examples[:COMPARED]:
            uniform, even = (make_walk(client, start, end, spacing) for spacing in ("uniform", "even"))
            pairs.append((frames_of(client, uniform), frames_of(client, even)))
        comparison(pairs).save(DOCS / "even.webp", quality=80, method=6)
        side_by_side(pairs[:3], DOCS / "even.gif")


if __name__ == "__main__":
    main()
