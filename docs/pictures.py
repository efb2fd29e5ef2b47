"""Makes the pictures of the docs through a real deployment: `make pictures`.

walks.png: six walks as contact sheets, every other frame; walk.gif and walk-2.gif: two of them as films. The sheets of
painter and model (painter.png, atelier.png) come from `python -m atelier.sheet`.
"""

import io
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from momalisa_api.local import deployment

DOCS = Path(__file__).parent
WALKS, FRAMES, SEED = 6, 25, 1
GAP_PX = 4


def make_walk(client: httpx.Client, start: str, end: str) -> dict[str, Any]:
    """A finished walk."""
    walk: dict[str, Any] = client.post(
        "/api/v1/walks", json={"start": start, "end": end, "frames": FRAMES, "seed": SEED}
    ).json()
    while walk["state"] not in ("done", "failed"):
        time.sleep(0.2)
        walk = client.get(walk["url"]).json()
    if walk["state"] == "failed":
        raise SystemExit(f"{start} -> {end}: {walk['error']}")
    print(f"{start} -> {end}")
    return walk


def contact_sheet(client: httpx.Client, walks: list[dict[str, Any]]) -> Image.Image:
    """A row a walk, every other frame."""
    shown = range(0, FRAMES, 2)
    side = walks[0]["spec"]["width"]
    size = (len(shown) * (side + GAP_PX) - GAP_PX, len(walks) * (side + GAP_PX) - GAP_PX)
    sheet = Image.new("RGB", size, "white")
    for row, walk in enumerate(walks):
        for column, index in enumerate(shown):
            frame = client.get(f"{walk['url']}/frames/{index}.png")
            picture = Image.open(io.BytesIO(frame.content))
            sheet.paste(picture, (column * (side + GAP_PX), row * (side + GAP_PX)))
    return sheet


def main() -> None:
    with deployment("http://127.0.0.1:8000", start=True) as url, httpx.Client(base_url=url, timeout=60) as client:
        examples = client.get("/api/v1/model").json()["card"]["about"]["examples"]
        walks = [make_walk(client, start, end) for start, end in examples[:WALKS]]
        sheet = contact_sheet(client, walks)
        sheet.quantize(256, dither=Image.Dither.NONE).save(DOCS / "walks.png", optimize=True)
        for walk, name in zip(walks, ("walk.gif", "walk-2.gif"), strict=False):
            (DOCS / name).write_bytes(client.get(f"{walk['url']}/walk.gif").content)


if __name__ == "__main__":
    main()
