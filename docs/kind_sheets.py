"""Makes the contact sheets of docs/kinds with a real deployment and the embedded models: `make pictures`.

The pictures and the clip are the painter's own scenes. A kind that no model of the deployment offers is left out.
"""

import io
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

import av
import httpx
import numpy as np
from PIL import Image

from atelier.scenes import paint_scene
from momalisa_api.cli.up import deployment

SHEETS_FOLDER: Final = Path(__file__).parent / "kinds"
SIZE_PX, CELL_PX, GAP_PX, QUALITY = 384, 160, 4, 84
CLIP_FRAMES, PAN_PX = 24, 6
STYLES_SHOWN: Final = ("stained-glass", "woodcut", "night-sky")


class Visitor:
    """A visitor of the deployment, who keeps a cookie."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get("/api/v1/models").json()["models"]
        return found

    def upload(self, what: str, content: bytes) -> str:
        return str(self._client.post(f"/api/v1/{what}", content=content).raise_for_status().json()["id"])

    def picture(self, picture: Image.Image) -> dict[str, str]:
        return {"picture": self.upload("pictures", png_of(picture))}

    def walk(self, **request: Any) -> dict[str, Any]:
        """A finished walk."""
        walk: dict[str, Any] = self._client.post("/api/v1/walks", json=request).raise_for_status().json()
        while walk["state"] not in ("done", "failed"):
            time.sleep(0.2)
            walk = self._client.get(walk["url"]).json()
        if walk["state"] == "failed":
            raise SystemExit(f"{request['kind']}: {walk['error']}")
        return walk

    def read(self, url: str) -> Image.Image:
        """A picture; transparent parts are grey."""
        found = Image.open(io.BytesIO(self._client.get(url).raise_for_status().content))
        if found.mode.startswith("I"):
            return Image.fromarray((np.asarray(found) / 257).astype(np.uint8)).convert("RGB")
        grey = Image.new("RGBA", found.size, "#d0d0d0")
        return Image.alpha_composite(grey, found.convert("RGBA")).convert("RGB")

    def frames(self, walk: dict[str, Any], count: int) -> list[Image.Image]:
        """So many of a walk's frames, from the first to the last."""
        last = walk["spec"]["frames"] - 1
        return [self.read(f"{walk['url']}/frames/{round(place * last / (count - 1))}.png") for place in range(count)]


def png_of(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def scene(seed: int, size: int = SIZE_PX) -> Image.Image:
    return Image.fromarray(paint_scene(np.random.default_rng(seed), size).picture)


def into(visitor: Visitor) -> list[list[Image.Image]]:
    """Six frames of a camera that circles, then depth and foreground."""
    rows = []
    for seed in (27, 40):
        picture = visitor.picture(scene(seed))
        walk = visitor.walk(kind="into", picture=picture, motion="circle", amplitude=1, size=SIZE_PX, frames=25)
        extras = [visitor.read(extra["url"]) for extra in walk["extras"]]
        rows.append([*visitor.frames(walk, 5)[:4], *extras])
    return rows


def restyle(visitor: Visitor) -> list[list[Image.Image]]:
    """A row for each style, from the picture to the style."""
    picture, rows = visitor.picture(scene(27)), []
    for style in STYLES_SHOWN:
        walk = visitor.walk(kind="restyle", picture=picture, style=style, size=SIZE_PX, frames=9)
        rows.append(visitor.frames(walk, 5))
    return rows


def clip(visitor: Visitor) -> list[list[Image.Image]]:
    """The clip above, the walk below."""
    wide = scene(45, SIZE_PX + CLIP_FRAMES * PAN_PX)
    pictures = [wide.crop((number * PAN_PX, 0, number * PAN_PX + SIZE_PX, SIZE_PX)) for number in range(CLIP_FRAMES)]
    film = visitor.upload("clips", mp4_of(pictures))
    walk = visitor.walk(kind="clip", clip=film, style=STYLES_SHOWN[0], size=SIZE_PX)
    return [pictures[:: CLIP_FRAMES // 5][:5], visitor.frames(walk, 5)]


def apart(visitor: Visitor) -> list[list[Image.Image]]:
    """One object after another."""
    rows = []
    for seed in (27, 45):
        walk = visitor.walk(kind="apart", picture=visitor.picture(scene(seed)), size=SIZE_PX, frames=9)
        rows.append(visitor.frames(walk, 5))
    return rows


def mp4_of(pictures: Sequence[Image.Image]) -> bytes:
    with NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w") as container:
            video: Any = container.add_stream("libx264", 12, options={"crf": "16"})
            video.width, video.height, video.pix_fmt = *pictures[0].size, "yuv420p"
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_image(picture)
                frame.pts, frame.time_base = number, Fraction(1, 12)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        return Path(file.name).read_bytes()


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    step = CELL_PX + GAP_PX
    out = Image.new("RGB", (max(map(len, rows)) * step - GAP_PX, len(rows) * step - GAP_PX), "white")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            small = picture.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
            out.paste(small, (column * step, row * step))
    return out


SHEETS: Final[dict[str, Callable[[Visitor], list[list[Image.Image]]]]] = {
    "into": into,
    "restyle": restyle,
    "clip": clip,
    "apart": apart,
}


def main(*wanted: str) -> None:
    with deployment("http://127.0.0.1:8000", start=True) as url, httpx.Client(base_url=url, timeout=120) as client:
        visitor = Visitor(client)
        offered = {kind for model in visitor.models() for kind in model["kinds"]}
        for kind, draw in SHEETS.items():
            if wanted and kind not in wanted:
                continue
            if kind not in offered:
                print(f"{kind}: no model")
                continue
            target = SHEETS_FOLDER / f"{kind}.webp"
            sheet(draw(visitor)).save(target, quality=QUALITY, method=6)
            print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
