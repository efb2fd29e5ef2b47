"""The three networks of the atelier's Stable Diffusion pipeline, small enough to train on two cores."""

from typing import Any, Final

from diffusers import AutoencoderTiny, DDPMScheduler, UNet2DConditionModel, UniPCMultistepScheduler
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from atelier.latents import CHANNELS

TEXT_WIDTH: Final = 128


def build_unet() -> UNet2DConditionModel:
    """The UNet: noisy latents (n, 12, 16, 16) and embeddings (n, 32, 128) to velocities; 9.4 million weights."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(48, 96, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder: token ids (n, 32) to embeddings (n, 32, 128)."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_autoencoder() -> AutoencoderTiny:
    """The autoencoder: pictures (n, 3, 128, 128) in [-1, 1] to latents (n, 12, 16, 16) and back."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(1, 1, 1, 2),
        num_decoder_blocks=(2, 2, 1, 1),
        latent_channels=CHANNELS,
        scaling_factor=1.0,
    )


# Pixels of a picture along each side of a latent.
LARGE_FACTOR: Final = 16


def build_large_autoencoder() -> AutoencoderTiny:
    """The autoencoder for pictures (n, 3, 256, 256): the same latents, and one stage more on each side."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32, 32),
        num_encoder_blocks=(1, 1, 1, 1, 2),
        num_decoder_blocks=(3, 3, 2, 1, 1),
        latent_channels=CHANNELS,
        scaling_factor=1.0,
        upsampling_scaling_factor=2,
    )


def build_networks(tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    """All three networks, by their names in the pipeline."""
    return nn.ModuleDict(
        {"unet": build_unet(), "text_encoder": build_text_encoder(tokenizer), "vae": build_autoencoder()}
    )


SCHEDULE: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}


def build_noise_schedule() -> DDPMScheduler:
    """The noise schedule for training."""
    return DDPMScheduler(**SCHEDULE)


def build_sampler() -> UniPCMultistepScheduler:
    """The scheduler of the pipeline: deterministic, with good pictures after a dozen steps."""
    return UniPCMultistepScheduler(**SCHEDULE, steps_offset=1)
