"""Memory of the API during walks at 512 px with a fake replica, films included: it must not grow with the frames.

`python bench/memory.py`. Prints the API's peak resident memory minus its idle memory (target at 241 frames: 150 MB).
"""

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.deployment import SCRIPTS, free_port, wait_until
from tests.support.factories import CARD
from tests.support.processes import start

SIDE_PX = 512
MB = 1024 * 1024


def paint(fraction: float) -> bytes:
    """A picture with grain like a decoder's: about 400 kB of PNG."""
    rows, columns = np.mgrid[0:SIDE_PX, 0:SIDE_PX] / SIDE_PX
    grain = np.random.default_rng(round(fraction * 1e6)).normal(0, 4, (SIDE_PX, SIDE_PX, 3))
    shades = np.stack([255 * rows, 255 * columns, 255 * np.full_like(rows, fraction)], axis=2)
    out = io.BytesIO()
    Image.fromarray((shades + grain).clip(0, 255).astype(np.uint8)).save(out, "PNG", compress_level=1)
    return out.getvalue()


async def render(request: Request) -> Response:
    fractions = (await request.json())["fractions"]

    async def lines() -> AsyncIterator[bytes]:
        yield json.dumps({"model": "test-model", "revision": "1", "fingerprint": "0"}).encode() + b"\n"
        for fraction in fractions:
            png = base64.b64encode(paint(fraction)).decode()
            yield json.dumps({"fraction": fraction, "png": png, "seconds": 0.1}).encode() + b"\n"

    return StreamingResponse(lines())


async def model(_: Request) -> Response:
    return JSONResponse({"card": CARD, "fingerprint": "0"})


async def ready(_: Request) -> Response:
    return Response("ready")


def serve_replica() -> str:
    routes = [Route("/readyz", ready), Route("/v1/model", model), Route("/v1/render", render, methods=["POST"])]
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=port, log_level="critical", loop="asyncio"))
    threading.Thread(target=server.run, daemon=True).start()
    return f"http://127.0.0.1:{port}"


def peak_of(url: str, process: psutil.Process, request: dict[str, Any]) -> tuple[int, float]:
    """The peak resident memory while a walk is rendered, in bytes, and the seconds from request to done."""
    began = time.perf_counter()
    walk = httpx.post(f"{url}/api/v1/walks", json=request, timeout=30).json()
    peak = 0
    samples = 0
    while walk["state"] not in ("done", "failed"):
        peak = max(peak, process.memory_info().rss)
        time.sleep(0.02)
        samples += 1
        # As often as the command line polls; memory is sampled more often.
        if samples % 12 == 0:
            walk = httpx.get(url + walk["url"], timeout=30).json()
    assert walk["state"] == "done", walk
    return peak, time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder) / "card.json"
        card.write_text(json.dumps(CARD))
        port = free_port()
        environment = {
            **os.environ,
            "MOMALISA_MODEL_CARD": str(card),
            "MOMALISA_BUCKET": f"{folder}/bucket",
            "MOMALISA_DATABASE_URL": f"sqlite:///{folder}/catalogue.sqlite",
            "MOMALISA_REPLICAS": serve_replica(),
            "MOMALISA_PORT": str(port),
        }
        api = start([str(SCRIPTS / "momalisa"), "serve"], env=environment, stdout=subprocess.DEVNULL)
        url, process = f"http://127.0.0.1:{port}", psutil.Process(api.pid)
        try:
            wait_until(lambda: _answers(url))
            idle = process.memory_info().rss
            print(f"idle {idle / MB:.0f} MB")
            for frames in (25, 121, 241):
                request = {
                    "start": "a",
                    "end": "b",
                    "frames": frames,
                    "spacing": "uniform",
                    "width": SIDE_PX,
                    "height": SIDE_PX,
                    "seed": frames,
                }
                peak, took_s = peak_of(url, process, request)
                print(f"{frames:4} frames: peak {(peak - idle) / MB:5.0f} MB over idle, {took_s:5.1f} s in total")
        finally:
            api.terminate()
            api.wait(20)


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(url + "/readyz").is_success)
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
