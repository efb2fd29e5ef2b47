"""A small model with random weights for each family: stock pipelines made from configurations, without a hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import diffusers as d
import tokenizers as tk
import torch
import transformers as t

from tests.support.small_models import small_tokenizer

WIDTH = 16
VOCABULARY = 400
SPECIAL = ["<pad>", "</s>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)


# Qwen-Image and Krea 2 drop a system prompt of 34 tokens, and append one of 5: with "assistant" and most of this as
# single tokens, those of a tokenizer of letters are as long.
SYSTEM = (
    "system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships "
)
QWEN_WORDS = (SYSTEM + "of the", "assistant")


def letters(end: bool = True, chat: bool = False, words: Sequence[str] = ()) -> Any:
    """A tokenizer of bytes, which gives each letter one token, but these words too."""
    model = tk.Tokenizer(tk.models.BPE())
    model.pre_tokenizer = tk.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tk.decoders.ByteLevel()
    alphabet = tk.pre_tokenizers.ByteLevel.alphabet()
    trainer = tk.trainers.BpeTrainer(
        vocab_size=len(alphabet) + len(SPECIAL), special_tokens=SPECIAL, initial_alphabet=alphabet
    )
    model.train_from_iterator([], trainer)
    if end:
        ends = [("</s>", model.token_to_id("</s>"))]
        model.post_processor = tk.processors.TemplateProcessing(single="$A </s>", special_tokens=ends)
    made = t.PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="</s>", pad_token="<pad>", model_max_length=512, padding_side="right"
    )
    made.add_tokens(list(words))
    made.chat_template = CHAT if chat else None
    return made


def clip(projected: bool, width: int = WIDTH) -> Any:
    config = t.CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (t.CLIPTextModelWithProjection if projected else t.CLIPTextModel)(config)


def t5() -> Any:
    return t.T5EncoderModel(
        t.T5Config(vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=WIDTH, num_layers=2, num_heads=2)
    )


def decoder_only(kind: Any, config: Any, layers: int = 2, **more: Any) -> Any:
    """A language model of two heads with 8 numbers each."""
    return kind(
        config(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=1024,
            **more,
        )
    )


def vision_language(kind: Any, config: Any, layers: int, **vision: Any) -> Any:
    """A language model that could also read pictures."""
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "mrope_interleaved": True}
    text: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": layers}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    text |= {"vocab_size": VOCABULARY, "rope_scaling": rope}
    seen = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}
    return kind(config(text_config=text, vision_config=seen | vision))


def kl(channels: int, levels: int = 4) -> Any:
    """An autoencoder with 2 ** (levels - 1) pixels per latent."""
    return d.AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        norm_num_groups=4,
        scaling_factor=0.4,
        shift_factor=0.1,
    )


def video_kl() -> Any:
    return d.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def deep_compression() -> Any:
    sides = {f"{side}_block_types": ("ResBlock", "EfficientViTBlock") for side in ("encoder", "decoder")}
    sides |= {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}  # type: ignore[misc]
    sides |= {f"{side}_layers_per_block": (1, 1) for side in ("encoder", "decoder")}  # type: ignore[misc]
    sides |= {f"{side}_qkv_multiscales": ((), (5,)) for side in ("encoder", "decoder")}  # type: ignore[misc]
    return d.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        upsample_block_type="interpolate",
        downsample_block_type="stride_conv",
        scaling_factor=0.4,
        **sides,
    )


def unet(width: int, **more: Any) -> Any:
    return d.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=4,
        norm_num_groups=4,
        **more,
    )


def flow(**more: Any) -> Any:
    return d.FlowMatchEulerDiscreteScheduler(shift=3.0, **more)


def stable_diffusion() -> Any:
    parts = {"vae": kl(4, 2), "text_encoder": clip(False), "tokenizer": small_tokenizer(77), "unet": unet(WIDTH)}
    without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return d.StableDiffusionPipeline(**parts, **without, scheduler=d.DDIMScheduler(steps_offset=1, clip_sample=False))


def lcm() -> Any:
    parts = {"vae": kl(4, 2), "text_encoder": clip(False), "tokenizer": small_tokenizer(77)}
    without = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return d.LatentConsistencyModelPipeline(
        **parts, **without, unet=unet(WIDTH, time_cond_proj_dim=16), scheduler=d.LCMScheduler()
    )


def sdxl(second: int = WIDTH) -> Any:
    """second: the width of its second text encoder."""
    pooled = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    pooled |= {"projection_class_embeddings_input_dim": 6 * 8 + second, "use_linear_projection": True}
    return d.StableDiffusionXLPipeline(
        vae=kl(4, 2),
        text_encoder=clip(False),
        text_encoder_2=clip(True, second),
        tokenizer=small_tokenizer(77),
        tokenizer_2=small_tokenizer(77),
        unet=unet(WIDTH + second, **pooled),
        scheduler=d.EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def stable_diffusion_3() -> Any:
    transformer = d.SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=32,
    )
    # Both CLIPs together are as wide as T5.
    wide = t.T5EncoderModel(
        t.T5Config(vocab_size=VOCABULARY, d_model=2 * WIDTH, d_kv=8, d_ff=WIDTH, num_layers=2, num_heads=2)
    )
    return d.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow(),
        vae=kl(4),
        text_encoder=clip(True),
        tokenizer=small_tokenizer(77),
        text_encoder_2=clip(True),
        tokenizer_2=small_tokenizer(77),
        text_encoder_3=wide,
        tokenizer_3=letters(),
    )


PACKED = {"patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16}
PACKED |= {"num_attention_heads": 2, "joint_attention_dim": WIDTH}


def flux() -> Any:
    transformer = d.FluxTransformer2DModel(
        **PACKED, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=True
    )
    parts = {"text_encoder": clip(False), "tokenizer": small_tokenizer(77), "text_encoder_2": t5()}
    schedule = flow(use_dynamic_shifting=True)
    return d.FluxPipeline(**parts, tokenizer_2=letters(), vae=kl(4), transformer=transformer, scheduler=schedule)


def chroma() -> Any:
    approximator = {"approximator_hidden_dim": 16, "approximator_layers": 1, "approximator_num_channels": 16}
    transformer = d.ChromaTransformer2DModel(**PACKED, **approximator, axes_dims_rope=(4, 4, 8))
    return d.ChromaPipeline(
        scheduler=flow(), vae=kl(4), text_encoder=t5(), tokenizer=letters(), transformer=transformer
    )


def flux_2_klein() -> Any:
    shape = PACKED | {"joint_attention_dim": 3 * WIDTH}
    transformer = d.Flux2Transformer2DModel(**shape, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False)
    vae = d.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4
    )
    return d.Flux2KleinPipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=vae,
        # It reads the layers 9, 18 and 27.
        text_encoder=decoder_only(t.Qwen3ForCausalLM, t.Qwen3Config, layers=27),
        tokenizer=letters(end=False, chat=True),
        transformer=transformer,
        is_distilled=False,
    )


def z_image() -> Any:
    transformer = d.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    return d.ZImagePipeline(
        scheduler=flow(),
        vae=kl(4),
        text_encoder=decoder_only(t.Qwen3Model, t.Qwen3Config, layers=3),
        tokenizer=letters(end=False, chat=True),
        transformer=transformer,
    )


def qwen_image() -> Any:
    transformer = d.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    return d.QwenImagePipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=video_kl(),
        text_encoder=vision_language(t.Qwen2_5_VLForConditionalGeneration, t.Qwen2_5_VLConfig, 2),
        tokenizer=letters(end=False, chat=True, words=QWEN_WORDS),
        transformer=transformer,
    )


def krea_2() -> Any:
    text = {"text_hidden_dim": WIDTH, "num_text_layers": 2, "text_num_attention_heads": 2}
    text |= {"text_num_key_value_heads": 2, "text_intermediate_size": 32}
    transformer = d.Krea2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        timestep_embed_dim=32,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(8, 4, 4),
        **text,
    )
    return d.Krea2Pipeline(
        scheduler=flow(use_dynamic_shifting=True),
        vae=video_kl(),
        text_encoder=vision_language(t.Qwen3VLModel, t.Qwen3VLConfig, 4, deepstack_visual_indexes=[0]),
        tokenizer=letters(end=False, chat=True, words=QWEN_WORDS),
        transformer=transformer,
        text_encoder_select_layers=(2, 4),
    )


def gemma() -> Any:
    return decoder_only(t.Gemma2Model, t.Gemma2Config)


def sana_transformer(**more: Any) -> Any:
    return d.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=WIDTH,
        sample_size=16,
        **more,
    )


def sana() -> Any:
    schedule = d.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )
    return d.SanaPipeline(
        tokenizer=letters(),
        text_encoder=gemma(),
        vae=deep_compression(),
        transformer=sana_transformer(),
        scheduler=schedule,
    )


def sana_sprint() -> Any:
    transformer = sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads")
    return d.SanaSprintPipeline(
        tokenizer=letters(),
        text_encoder=gemma(),
        vae=deep_compression(),
        transformer=transformer,
        scheduler=d.SCMScheduler(),
    )


def pixart() -> Any:
    transformer = d.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=WIDTH,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
    )
    return d.PixArtSigmaPipeline(
        tokenizer=letters(),
        text_encoder=t5(),
        vae=kl(4),
        transformer=transformer,
        scheduler=d.DPMSolverMultistepScheduler(),
    )


def lumina_2() -> Any:
    transformer = d.Lumina2Transformer2DModel(
        sample_size=16,
        in_channels=4,
        hidden_size=8,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 64, 64),
        cap_feat_dim=WIDTH,
    )
    return d.Lumina2Pipeline(
        transformer=transformer, scheduler=flow(), vae=kl(4), text_encoder=gemma(), tokenizer=letters()
    )


SMALL_FAMILIES: dict[str, Callable[[], Any]] = {
    "sd": stable_diffusion,
    "lcm": lcm,
    "sdxl": sdxl,
    "sd3": stable_diffusion_3,
    "flux": flux,
    "chroma": chroma,
    "klein": flux_2_klein,
    "z-image": z_image,
    "qwen-image": qwen_image,
    "krea-2": krea_2,
    "sana": sana,
    "sana-sprint": sana_sprint,
    "pixart-sigma": pixart,
    "lumina-2": lumina_2,
}


def small_family(name: str) -> Any:
    """The stock pipeline of a family with random weights, the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = SMALL_FAMILIES[name]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
