"""Small diffusers pipelines with random weights and unusual shapes, saved to a folder like any other model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

CHARACTERS = "abcdefghijklmnopqrstuvwxyz"
WIDTH = 32


def small_tokenizer(model_max_length: int) -> CLIPTokenizer:
    """One token for each letter within a word, and one for each letter at its end."""
    words = ["<|startoftext|>", "<|endoftext|>", *CHARACTERS, *(f"{letter}</w>" for letter in CHARACTERS)]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=model_max_length)


def small_text_encoder(tokens: int, vocabulary: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokens,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config)


def small_unet(channels: int, sample_size: int | tuple[int, int], **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        **more,
    )


def small_kl(channels: int, levels: int) -> AutoencoderKL:
    """An autoencoder with 2 ** (levels - 1) pixels per latent."""
    return AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
    )


def small_tiny(channels: int) -> AutoencoderTiny:
    """An autoencoder with 8 pixels per latent."""
    return AutoencoderTiny(
        latent_channels=channels, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4
    )


def save(folder: Path, tokens: int, unet: Any, vae: Any, scheduler: Any) -> Path:
    tokenizer = small_tokenizer(tokens)
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=small_text_encoder(tokens, len(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def with_safety_checker(folder: Path, target: Path, threshold: float, dislikes: Image.Image | None = None) -> Path:
    """A copy of a folder's pipeline with a safety checker that objects to similar pictures.

    threshold: the smallest cosine similarity at which it objects; 1.1 is above all cosines, -1.1 below. dislikes: the
    picture to compare with, instead of a random direction.
    """
    vision: dict[str, float] = {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
    }
    # With the default initialisation, all pictures look alike to a network as small as this.
    vision |= {"image_size": 24, "patch_size": 8, "initializer_factor": 20.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16)).eval()
    extractor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=24)
    checker.concept_embeds_weights.fill_(threshold)
    checker.special_care_embeds_weights.fill_(1.1)
    if dislikes:
        with torch.no_grad():
            features = checker.vision_model(extractor([dislikes], return_tensors="pt").pixel_values)[1]
            checker.concept_embeds.copy_(checker.visual_projection(features))
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=checker, feature_extractor=extractor)
    pipeline.save_pretrained(target, safe_serialization=True)
    return target
