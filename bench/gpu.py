"""How well the service uses a GPU: random weights of real shapes, beside the stock pipeline called frame by frame.

    python bench/gpu.py [--models sd15 sdxl klein-4b z-image] [--minutes 8.5] [--out gpu.jsonl]

Random weights cost what real ones cost, so no hub is needed. Without CUDA, the shapes are small and the figures mean
nothing: this only shows that the script runs. Each model has a process of its own and its share of the time, so that an
error, or too little of either, costs this model's remaining lines only. Lines are printed as soon as they are measured;
--out also appends them to a file, as JSON. Printed for each model:

- frames a second, and as a multiple of the stock pipeline's loop with one frame a call (target on SD 1.5: at least 3)
- MFU: the FLOPs that torch counts for a frame, times frames a second, over the FLOPs a second of a large bfloat16
  matrix product in the same process (targets: .45; SDXL .60)
- how busy the device is, with packing beside it, and the most memory that was used
- the same with compiled blocks and channels-last tensors, for the first micro-batch
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import anyio
import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode

from momalisa_model.device_errors import free_memory
from momalisa_model.device_queue import DeviceQueue
from momalisa_model.engines.diffusion import DiffusionEngine
from momalisa_model.engines.sampler import Sampler
from momalisa_model.metrics import Metrics
from momalisa_model.placement import effective, place
from momalisa_model.prompts import Leg
from momalisa_model.recipes import BetweenRecipe
from momalisa_model.streaming import Shard
from momalisa_model.weights import Weights
from momalisa_model.wire import DeviceOptions, RenderRequest

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
KL_OF_FLUX = {**KL, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
WITHOUT_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
DISCRETE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@dataclass(frozen=True)
class Shape:
    """A model as its public configuration describes it; `toy` replaces fields of it for machines without a GPU.

    micro_batches: the first is measured first, and also compiled.
    """

    pipeline: str
    denoiser: tuple[str, dict[str, Any]]
    vae: tuple[str, dict[str, Any]]
    scheduler: tuple[str, dict[str, Any]]
    size: int
    steps: int
    guidance: float
    embeddings: dict[str, tuple[int, ...]]
    toy: dict[str, Any]
    toy_embeddings: dict[str, tuple[int, ...]]
    micro_batches: tuple[int, ...] = (8, 4)
    toy_size: int = 64
    toy_vae: dict[str, Any] = field(default_factory=lambda: {"block_out_channels": (32, 32, 32, 32)})
    settings: dict[str, Any] = field(default_factory=dict)


CALLERS = 3
# Also without a GPU, so that the same code runs.
DTYPE = torch.bfloat16
UNET = {"in_channels": 4, "out_channels": 4, "layers_per_block": 2}
SHAPES = {
    # stable-diffusion-v1-5
    "sd15": Shape(
        "StableDiffusionPipeline",
        (
            "UNet2DConditionModel",
            {
                **UNET,
                "sample_size": 64,
                "block_out_channels": (320, 640, 1280, 1280),
                "cross_attention_dim": 768,
                "attention_head_dim": 8,
            },
        ),
        ("AutoencoderKL", {**KL, "latent_channels": 4}),
        ("DDIMScheduler", {**DISCRETE, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
        size=512,
        steps=25,
        guidance=7.5,
        embeddings={"prompt_embeds": (77, 768)},
        toy={"block_out_channels": (32, 32, 32, 32), "cross_attention_dim": 32},
        toy_embeddings={"prompt_embeds": (77, 32)},
        micro_batches=(16, 8, 1),
        settings={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    ),
    # stable-diffusion-xl-base-1.0
    "sdxl": Shape(
        "StableDiffusionXLPipeline",
        (
            "UNet2DConditionModel",
            {
                **UNET,
                "sample_size": 128,
                "block_out_channels": (320, 640, 1280),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": (1, 2, 10),
                "attention_head_dim": (5, 10, 20),
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
        ("AutoencoderKL", {**KL, "latent_channels": 4, "force_upcast": False}),
        ("EulerDiscreteScheduler", {**DISCRETE, "steps_offset": 1}),
        size=1024,
        steps=25,
        guidance=5.0,
        embeddings={"prompt_embeds": (77, 2048), "pooled_prompt_embeds": (1280,)},
        toy={
            "block_out_channels": (32, 32, 32),
            "transformer_layers_per_block": 1,
            "attention_head_dim": 2,
            "cross_attention_dim": 32,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64,
        },
        toy_embeddings={"prompt_embeds": (77, 32), "pooled_prompt_embeds": (16,)},
        settings={"add_watermarker": False},
    ),
    # FLUX.2-klein-4B, distilled
    "klein-4b": Shape(
        "Flux2KleinPipeline",
        (
            "Flux2Transformer2DModel",
            {
                "in_channels": 128,
                "num_layers": 5,
                "num_single_layers": 20,
                "num_attention_heads": 24,
                "attention_head_dim": 128,
                "joint_attention_dim": 7680,
                "guidance_embeds": False,
            },
        ),
        ("AutoencoderKLFlux2", {**KL, "latent_channels": 32}),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}),
        size=1024,
        steps=4,
        guidance=1.0,
        embeddings={"prompt_embeds": (512, 7680)},
        toy={"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1, "joint_attention_dim": 32},
        toy_embeddings={"prompt_embeds": (16, 32)},
        settings={"is_distilled": True},
    ),
    # Z-Image-Turbo
    "z-image": Shape(
        "ZImagePipeline",
        (
            "ZImageTransformer2DModel",
            {"in_channels": 16, "dim": 3840, "n_layers": 30, "n_heads": 30, "n_kv_heads": 30, "cap_feat_dim": 2560},
        ),
        ("AutoencoderKL", {**KL_OF_FLUX, **WITHOUT_QUANT}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        size=1024,
        steps=8,
        guidance=0.0,
        embeddings={"prompt_embeds": (128, 2560)},
        toy={"dim": 128, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 1, "n_kv_heads": 1, "cap_feat_dim": 32},
        toy_embeddings={"prompt_embeds": (32, 32)},
    ),
}


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """New tensors are on the device in this precision: gigabytes of weights never pass through the CPU."""
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def weights_of(shape: Shape, device: torch.device, dtype: torch.dtype, options: DeviceOptions) -> Weights:
    toy = device.type != "cuda"
    kind, config = shape.denoiser
    vae_kind, vae_config = shape.vae
    with made_on(device, dtype):
        denoiser = getattr(diffusers, kind)(**config | (shape.toy if toy else {}))
        vae = getattr(diffusers, vae_kind)(**vae_config | (shape.toy_vae if toy else {}))
    name, settings = shape.scheduler
    parts = {"scheduler": getattr(diffusers, name)(**settings), "vae": vae}
    parts["unet" if kind.startswith("UNet") else "transformer"] = denoiser
    takes = getattr(diffusers, shape.pipeline)
    encoders = {name: None for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")}
    lacking = {name: None for name in encoders if name in takes.__init__.__annotations__}
    pipeline = takes(**parts, **lacking, **shape.settings)
    pipeline.set_progress_bar_config(disable=True)
    for part in (denoiser, vae):
        part.requires_grad_(False).eval()
    for name, parameter in denoiser.named_parameters():
        if "pad_token" in name:  # Z-Image leaves them as they are in memory: not always numbers
            torch.nn.init.normal_(parameter)
    place(pipeline, effective(options, device), device)
    return Weights(pipeline, "random", "0", Path(), {}, device, dtype)


def leg_of(shape: Shape, toy: bool) -> Leg:
    dice = torch.Generator().manual_seed(0)
    sizes = shape.toy_embeddings if toy else shape.embeddings

    def random() -> dict[str, torch.Tensor]:
        return {name: torch.randn(size, generator=dice).to(DTYPE) for name, size in sizes.items()}

    negative = {f"negative_{name}": value for name, value in random().items()} if shape.guidance > 1 else {}
    return Leg(random(), random(), negative, ())


def recipe_of(shape: Shape, toy: bool) -> BetweenRecipe:
    size = shape.toy_size if toy else shape.size
    names = {"DDIMScheduler": "DDIM", "EulerDiscreteScheduler": "Euler"}
    return BetweenRecipe(
        start="a",
        end="b",
        negative_prompt="",
        seed=7,
        width=size,
        height=size,
        num_inference_steps=2 if toy else shape.steps,
        guidance_scale=shape.guidance,
        scheduler=names.get(shape.scheduler[0], "FlowMatchEuler"),
        model="random",
        revision="0",
    )


def finished(device: torch.device) -> float:
    """The time when everything on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Seconds of one run, after one that plans kernels."""
    work()
    began = finished(device)
    for _ in range(runs):
        work()
    return (finished(device) - began) / runs


def peak_flops(device: torch.device) -> float:
    """FLOPs a second of a large bfloat16 matrix product."""
    side = 8192 if device.type == "cuda" else 256
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right, device, 20)


async def served(sampler: Sampler, recipe: BetweenRecipe, leg: Leg, micro_batch: int) -> tuple[float, float]:
    """Frames a second and the share of the time in which the device is busy, for three callers at once."""
    sampler.encode = lambda _: leg  # the text encoders are left out
    card = SimpleNamespace(model="random", revision="0", device=DeviceOptions())
    queue, seconds = DeviceQueue(3, Metrics(), lambda: None), []
    fractions = [place / (2 * micro_batch) for place in range(2 * micro_batch)]
    request = RenderRequest(recipe=recipe, fractions=fractions)
    first = RenderRequest(recipe=recipe, fractions=fractions[:micro_batch])
    answer, metrics = SimpleNamespace(card=card, fingerprint="0"), Metrics()
    loaded = SimpleNamespace(engine=DiffusionEngine(sampler, card), answer=answer, card=card)

    async def caller() -> None:
        shard = Shard(request, loaded, metrics)
        await queue.run(shard.render, lambda line: seconds.append(getattr(line, "seconds", 0.0)), shard.prepare)

    await queue.run(Shard(first, loaded, metrics).render, lambda _: None)
    began = perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(CALLERS):
            tasks.start_soon(caller)
    wall = perf_counter() - began
    return CALLERS * len(fractions) / wall, sum(seconds) / wall


def stock_loop(weights: Weights, recipe: BetweenRecipe, leg: Leg, runs: int) -> tuple[float, float]:
    """The FLOPs of a frame, and frames a second, of the stock pipeline with one frame a call."""
    given = {
        name: value[None].to(weights.device, weights.dtype) for name, value in {**leg.start, **leg.negative}.items()
    }
    if weights.family.lists:
        given = {name: list(value) for name, value in given.items()}

    @torch.inference_mode()
    def one_frame() -> None:
        weights.pipeline(
            **given,
            generator=torch.Generator("cpu").manual_seed(recipe.seed),
            width=recipe.width,
            height=recipe.height,
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
        )

    with FlopCounterMode(display=False) as counter:
        one_frame()
    return counter.get_total_flops(), 1 / seconds_of(one_frame, weights.device, runs)


def measure(name: str, out: Path | None) -> None:
    """All lines of one model, in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    toy, shape = device.type != "cuda", SHAPES[name]
    torch.backends.cudnn.deterministic = True  # as the service
    if toy:
        torch.set_num_threads(1)
    recipe, leg, peak = recipe_of(shape, toy), leg_of(shape, toy), peak_flops(device)

    def tell(text: str, **figures: object) -> None:
        print(text, flush=True)
        if out:
            with out.open("a") as file:
                file.write(json.dumps({"model": name} | figures) + "\n")

    tell(f"\n{name} on {device}; bfloat16 matrix product: {peak / 1e12:.1f} TFLOP/s", peak_flops=peak, toy=toy)
    eager = weights_of(shape, device, DTYPE, DeviceOptions())
    flops, stock = stock_loop(eager, recipe, leg, 1 if toy else 3)
    size = f"{recipe.width} pixels, {recipe.num_inference_steps} steps, {flops / 1e12:.3g} TFLOP a frame"
    row = f"stock, one frame a call    {stock:8.3f} frames/s   MFU {stock * flops / peak:.3f}"
    tell(f"{size}\n{row}", micro_batch=0, flops=flops, frames_per_s=stock, mfu=stock * flops / peak)

    def serve(weights: Weights, micro_batch: int, how: str) -> None:
        if not toy:
            torch.cuda.reset_peak_memory_stats(device)
        try:
            rate, busy = anyio.run(served, Sampler(weights, micro_batch), recipe, leg, micro_batch)
        except Exception as error:
            tell(f"micro-batch {micro_batch:3} {how:8}   {type(error).__name__}: {error}", error=str(error)[:200])
            return
        memory = 0 if toy else torch.cuda.max_memory_allocated(device) / 2**30
        tell(
            f"micro-batch {micro_batch:3} {how:8}   {rate:8.3f} frames/s   MFU {rate * flops / peak:.3f}   "
            f"{rate / stock:5.2f} x stock   busy {busy:.3f}   {memory:5.1f} GiB",
            **{"micro_batch": micro_batch, "how": how, "frames_per_s": rate, "times_stock": rate / stock},
            **{"mfu": rate * flops / peak, "busy": busy, "memory_gib": memory},
        )

    for micro_batch in (2,) if toy else shape.micro_batches:
        serve(eager, micro_batch, "")
        free_memory()
    del eager
    free_memory()
    if not toy:
        compiled = DeviceOptions(compile=True, channels_last=True)
        serve(weights_of(shape, device, DTYPE, compiled), shape.micro_batches[0], "compiled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--minutes", type=float, default=8.5, help="for all models together")
    parser.add_argument("--out", type=Path, help="a file to which each line is appended as JSON")
    parser.add_argument("--here", action="store_true", help="measure the first model in this process, without a limit")
    chosen = parser.parse_args()
    if chosen.here:
        return measure(chosen.models[0], chosen.out)
    ends = perf_counter() + chosen.minutes * 60
    for done, name in enumerate(chosen.models):
        command = [sys.executable, __file__, "--here", "--models", name]
        command += ["--out", str(chosen.out)] if chosen.out else []
        seconds = (ends - perf_counter()) / (len(chosen.models) - done)
        try:
            code = subprocess.run(command, timeout=seconds, check=False).returncode
            if code:
                print(f"{name}: ended with status {code}", flush=True)
        except subprocess.TimeoutExpired:
            print(f"{name}: not completed within {seconds:.0f} s", flush=True)
    return None


if __name__ == "__main__":
    main()
