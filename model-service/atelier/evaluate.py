"""Evaluates a replica over HTTP with held-out captions: `python -m atelier.evaluate`.

It measures whether pictures show the family and the colours of their caption, in their order, and how walks move. The
painter's pictures and shuffled captions give an upper and a lower bound for each figure.
"""

import argparse
import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from atelier.captions import Caption, draw_caption
from atelier.classifier import FamilyClassifier, colours_present, family_accuracy, share_of, train_classifier
from atelier.export import load_weights
from atelier.latents import fit_pca, to_tensor
from atelier.painter import Picture, paint
from atelier.readme import FIGURES, write_readme
from atelier.sheet import paint_captions
from atelier.unknown_words import UNKNOWN_PHRASES, substitute_caption

TIMEOUT_S: Final = 600
PCA_SEED: Final = 0


@dataclass(frozen=True)
class Walk:
    """Two captions, and the pictures from one to the other, both ends included."""

    start: Caption
    end: Caption
    pictures: tuple[Picture, ...]


class Replica:
    """A client of a model service at a URL; it uses the defaults of the model card."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.card: dict[str, Any] = json.loads(self._call("/v1/model"))["card"]

    def render(self, start: str, end: str, seed: int, fractions: Sequence[float]) -> tuple[Picture, ...]:
        """Pictures in the order of the fractions, (height, width, 3) uint8 each. Raises URLError and HTTPError."""
        kept = ("width", "height", "num_inference_steps", "guidance_scale", "negative_prompt", "scheduler")
        recipe = {name: self.card[name] for name in (*kept, "model", "revision")}
        recipe |= {"start": start, "end": end, "seed": seed}
        answer = self._call("/v1/render", {"recipe": recipe, "fractions": list(fractions)})
        frames = [json.loads(line) for line in answer.splitlines()[1:]]
        return tuple(np.asarray(Image.open(io.BytesIO(base64.b64decode(frame["png"])))) for frame in frames)

    def _call(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        with _open(request, TIMEOUT_S) as answer:
            content: bytes = answer.read()
        return content


def _open(request: urllib.request.Request, timeout_s: float) -> Any:
    """Send a request: to this machine without the proxy that the environment may name."""
    local = urllib.parse.urlsplit(request.full_url).hostname in ("127.0.0.1", "::1", "localhost")
    handlers = [urllib.request.ProxyHandler({})] if local else []
    return urllib.request.build_opener(*handlers).open(request, timeout=timeout_s)


@contextmanager
def started_replica(weights: Path) -> Iterator[str]:
    """Run a model service with weights during the block, else with the settings of the environment. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    url, program = f"http://127.0.0.1:{port}", str(Path(sys.executable).with_name("momalisa-model"))
    process = subprocess.Popen(
        [program, "serve"], env={**os.environ, "MODEL_ID": str(weights), "MOMALISA_PORT": str(port)}
    )
    try:
        while not _is_ready(url):
            if process.poll() is not None:
                raise SystemExit("The replica stopped before it was ready. See its log above.")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(url: str) -> bool:
    try:
        with _open(urllib.request.Request(f"{url}/readyz"), 5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def make_walks(replica: Replica, count: int, frames: int, seed: int = 99) -> list[Walk]:
    """Walks between random held-out captions."""
    rng, walks = Random(seed), []
    fractions = [index / (frames - 1) for index in range(frames)]
    for number in range(count):
        start, end = (draw_caption(rng, from_held_out=True) for _ in range(2))
        walks.append(Walk(start, end, replica.render(start.text, end.text, number, fractions)))
    return walks


def colours_in_order(picture: Picture, caption: Caption) -> bool:
    """Whether the picture is closer to the painter's than to those with the same colours in another order."""

    def distance(colours: tuple[str, ...]) -> float:
        layouts = (paint(caption.family, colours, kind, size=picture.shape[0]) for kind in (0, 1))
        return min(float(np.square(picture.astype(np.float32) - layout).mean()) for layout in layouts)

    return min(permutations(caption.colours), key=distance) == caption.colours


def share_in_colours(picture: Picture, caption: Caption) -> float:
    """The share of pixels in one of the named colours or in black, the colour of outlines."""
    return min(1.0, sum(share_of(picture, colour) for colour in {*caption.colours, "black"}))


def evenness(pictures: Sequence[Picture]) -> float:
    """1 - Gini coefficient of the steps between neighbours (RMS of pixels): 1 if all steps have the same size."""
    steps = np.sort([np.sqrt(np.square(a.astype(np.float32) - b).mean()) for a, b in pairwise(pictures)])
    if not steps.sum():
        return 0.0
    ranks = np.arange(1, len(steps) + 1)
    gini = float((2 * ranks - len(steps) - 1) @ steps / (len(steps) * steps.sum()))
    return 1 - gini


def sharpness(pictures: Sequence[Picture]) -> float:
    """Variance of the Laplacian in the middle third, relative to both ends: below 1 if a walk cross-fades."""
    third = len(pictures) // 3
    middle = np.mean([_laplacian_variance(picture) for picture in pictures[third:-third]])
    ends = np.mean([_laplacian_variance(picture) for picture in (pictures[0], pictures[-1])])
    return float(middle / ends)


def _laplacian_variance(picture: Picture) -> float:
    grey: NDArray[np.float32] = picture.astype(np.float32).mean(axis=-1)
    inner = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var())


def compare_with_baselines(
    walks: Sequence[Walk], classifier: FamilyClassifier
) -> dict[str, tuple[float, float, float]]:
    """Each figure for the replica, for the painter, and for the replica with shuffled captions."""
    captions = [caption for walk in walks for caption in (walk.start, walk.end)]
    pictures = [picture for walk in walks for picture in (walk.pictures[0], walk.pictures[-1])]
    shuffled = captions[1:] + captions[:1]

    def three(figure: Any) -> tuple[float, float, float]:
        return figure(pictures, captions), figure(paint_captions(captions), captions), figure(pictures, shuffled)

    def mean_of(judge: Any) -> Any:
        return lambda shown, texts: float(np.mean([judge(p, c) for p, c in zip(shown, texts, strict=True)]))

    return {
        "correct family": three(lambda shown, texts: family_accuracy(classifier, shown, texts)),
        "named colours present": three(colours_present),
        "pixels in named colours": three(mean_of(share_in_colours)),
        "correct colour order": three(mean_of(colours_in_order)),
    }


@torch.inference_mode()
def decoder_db(weights: Path, count: int = 64, seed: int = 99) -> float:
    """Peak signal-to-noise ratio of decoded held-out pictures, in dB."""
    rng = Random(seed)
    captions = [draw_caption(rng, from_held_out=True) for _ in range(count)]
    whole, vae = to_tensor(np.stack(paint_captions(captions))), load_weights(weights).vae
    latents = fit_pca(PCA_SEED).encode(whole)
    again = torch.cat([vae.decode(some).sample for some in torch.split(latents, 8)])
    return float(-10 * ((again.clamp(-1, 1) - whole) / 2).square().mean().log10())


def both_ends_correct(walks: Sequence[Walk], classifier: FamilyClassifier) -> float:
    """The share of walks whose first and last pictures both show the family of their caption."""
    correct = [
        family_accuracy(classifier, [walk.pictures[0], walk.pictures[-1]], [walk.start, walk.end]) == 1
        for walk in walks
    ]
    return sum(correct) / len(correct)


def unknown_words_accuracy(replica: Replica, classifier: FamilyClassifier) -> tuple[float, float]:
    """(correct family, colours present) for texts of unknown words, as atelier/unknown_words.py defines them."""
    captions = [substitute_caption(text) for text in UNKNOWN_PHRASES]
    pictures = [replica.render(text, text, number, [0.0])[0] for number, text in enumerate(UNKNOWN_PHRASES)]
    return family_accuracy(classifier, pictures, captions), colours_present(pictures, captions)


def measure(replica: Replica, count: int, frames: int, weights: Path) -> dict[str, tuple[float, ...]]:
    """Every figure by name: the replica's, and for some also the painter's and that of shuffled captions."""
    walks, classifier = make_walks(replica, count, frames), train_classifier()
    family, colours = unknown_words_accuracy(replica, classifier)
    return {
        **compare_with_baselines(walks, classifier),
        "decoder PSNR, dB": (decoder_db(weights),),
        "both ends correct": (both_ends_correct(walks, classifier),),
        "1 - Gini of steps": (float(np.mean([evenness(walk.pictures) for walk in walks])),),
        "sharpness of the middle": (float(np.mean([sharpness(walk.pictures) for walk in walks])),),
        "unknown words, correct family": (family,),
        "unknown words, colours present": (colours,),
    }


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="URL of a running replica; without it, one is started")
    parser.add_argument("--walks", type=int, default=60, help="number of walks")
    parser.add_argument("--frames", type=int, default=25, help="frames of each walk")
    parser.add_argument(
        "--weights", type=Path, default=Path("atelier/weights-128"), help="folder of the weights, for 128 pixels"
    )
    parser.add_argument("--keep", action="store_true", help="write the figures into the README of the weights")
    options = parser.parse_args()
    with nullcontext(options.url) if options.url else started_replica(options.weights) as url:
        replica = Replica(url)
        figures = measure(replica, options.walks, options.frames, options.weights)
    steps, guidance = replica.card["num_inference_steps"], replica.card["guidance_scale"]
    recipe = (
        f"{options.walks} walks of {options.frames} frames, {steps} steps, guidance {guidance:g}; held-out captions"
    )
    print(f"{recipe}\n{'':32}{'replica':>10}{'painter':>10}{'shuffled':>10}")
    for name, values in figures.items():
        print(f"{name:32}" + "".join(f"{value:10.2f}" for value in values))
    if options.keep:
        (options.weights / FIGURES).write_text(json.dumps({"recipe": recipe, "figures": figures}, indent=2) + "\n")
        write_readme(options.weights)


if __name__ == "__main__":
    _main()
