"""Adds finished walks to a deployment before it starts: catalogue and bucket as the studio would write them."""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter
from sqlalchemy.ext.asyncio import AsyncEngine

from momalisa_api.films.outputs import save_poster, save_shared_poster
from momalisa_api.store.catalogue import Catalogue
from momalisa_api.store.folder import FolderBucket
from momalisa_api.store.progress import Progress
from momalisa_api.store.schema import opened
from momalisa_api.walks.between import BetweenSpec
from momalisa_api.walks.model_card import ModelCard
from momalisa_api.walks.rounds import first_layout
from momalisa_api.walks.walk import State, Walk
from tests.support.films import make_gif, make_mp4, make_preview, make_still, measured
from tests.support.processes import WEIGHTS

StopsAndFrames = tuple[tuple[str, ...], Sequence[bytes]]
NAMES = ("walk.gif", "walk.mp4", "preview.mp4", "poster.webp", "poster.jpg")
SIDE_PX = 128


def add_finished_walks(folder: Path, walks: Sequence[StopsAndFrames]) -> list[str]:
    """Add finished walks to a deployment's folder before it starts, oldest first. Returns their ids.

    walks: for each, its stops and its frames as PNG, SIDE_PX wide and high. Films of equal frames are made once.
    """
    return asyncio.run(_add(folder, walks))


async def _add(folder: Path, walks: Sequence[StopsAndFrames]) -> list[str]:
    bucket, films = FolderBucket(folder / "bucket"), dict[tuple[bytes, ...], dict[str, bytes]]()
    ids = []
    async with opened(f"sqlite:///{folder}/catalogue.sqlite") as engine:
        for number, (stops, frames) in enumerate(walks):
            spec = _spec(stops, len(frames), seed=number)
            made = films.setdefault(tuple(frames), {}) or _films(frames)
            films[tuple(frames)] = made
            ids.append(await _add_one(engine, bucket, spec, frames, made))
    await bucket.aclose()
    return ids


async def _add_one(
    engine: AsyncEngine,
    bucket: FolderBucket,
    spec: BetweenSpec,
    frames: Sequence[bytes],
    films: dict[str, bytes],
) -> str:
    layout = first_layout(spec)
    for frame, png in zip(layout.frames(spec), frames, strict=True):
        await bucket.put(frame.key, png)
    for name, content in films.items():
        await bucket.put(f"walks/{spec.id}/{name}", content)
    facts = measured(_pictures(frames)).model_dump(mode="json")
    return (await add_finished_walk(engine, spec, films=sorted(films), smoothness=facts)).id


async def add_finished_walk(engine: AsyncEngine, spec: BetweenSpec, **columns: Any) -> Walk:
    """Add a finished walk to the catalogue only. columns: what its films and its smoothness are."""
    catalogue, progress = Catalogue(engine), Progress(engine)
    walk, _ = await catalogue.request(spec, "cookie:somebody")
    await progress.plan(walk, first_layout(spec), range(spec.frames), [])
    await progress.move(walk.id, State.WAITING, State.RENDERING)
    await progress.move(walk.id, State.RENDERING, State.FILMING)
    await progress.move(walk.id, State.FILMING, State.DONE, **columns)
    return await catalogue.get(walk.id)


def _films(frames: Sequence[bytes]) -> dict[str, bytes]:
    pictures = _pictures(frames)
    with tempfile.TemporaryDirectory() as folder:
        gif, mp4, preview, poster, shared = (Path(folder) / name for name in NAMES)
        make_gif(pictures, gif, "")
        make_mp4(pictures, mp4, "")
        make_preview(pictures, preview, "")
        make_still(pictures, poster, save_poster, "")
        make_still(pictures, shared, save_shared_poster, "")
        return {path.name: path.read_bytes() for path in (gif, mp4, preview, poster, shared)}


def _pictures(frames: Sequence[bytes]) -> list[Image.Image]:
    return [Image.open(BytesIO(frame)).convert("RGB") for frame in frames]


def _spec(stops: tuple[str, ...], frames: int, seed: int) -> BetweenSpec:
    card = ModelCard.model_validate(json.loads((WEIGHTS / "card.json").read_text()))
    return BetweenSpec(
        stops=stops,
        frames=frames,
        seed=seed,
        spacing="uniform",
        effort="balanced",
        negative_prompt=card.negative_prompt,
        width=SIDE_PX,
        height=SIDE_PX,
        steps=card.num_inference_steps,
        guidance_scale=card.guidance_scale,
        scheduler=card.scheduler,
        model=card.model,
        revision=card.revision,
        frame_ms=80,
        gif_there_and_back=True,
        mp4_there_and_back=False,
    )


def noise_frames(count: int, seed: int) -> list[bytes]:
    """Frames from one noisy picture to another, as PNG. Each seed gives different pictures."""
    ends = []
    for side in range(2):
        grain = Image.effect_noise((SIDE_PX, SIDE_PX), 90).filter(ImageFilter.GaussianBlur(1 + side))
        turned = Image.linear_gradient("L").resize(grain.size).rotate(37 * seed + 90 * side)
        ends.append(Image.merge("RGB", (grain, turned, turned.transpose(Image.Transpose.ROTATE_90))))
    start, end = ends
    return [_png(Image.blend(start, end, number / (count - 1))) for number in range(count)]


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
