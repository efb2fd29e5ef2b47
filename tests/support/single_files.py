"""Writes pipelines as single files: the names that the programs have that trained Stable Diffusion 1.x and SDXL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3"}
RESNET |= {"time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
UNET_ENDS = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
UNET_ENDS |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
UNET_ENDS |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
OPEN_CLIP |= {"self_attn.out_proj": "attn.out_proj"}


def write_single_file(pipeline: Any, file: Path, without: tuple[str, ...] = ()) -> None:
    """The networks of a StableDiffusionPipeline or a StableDiffusionXLPipeline in one file.

    without: beginnings of the names of tensors that are left out.
    """
    tensors = {f"model.diffusion_model.{key}": tensor for key, tensor in unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{key}": tensor for key, tensor in vae(pipeline.vae).items()}
    first = "conditioner.embedders.0" if hasattr(pipeline, "text_encoder_2") else "cond_stage_model"
    for key, tensor in text_model(pipeline.text_encoder).items():
        tensors[f"{first}.transformer.text_model.{key}"] = tensor
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= {f"conditioner.embedders.1.model.{k}": t for k, t in open_clip(pipeline.text_encoder_2).items()}
    save_file({key: t.contiguous() for key, t in tensors.items() if not key.startswith(without or ("-",))}, file)


def renamed(key: str, names: dict[str, str]) -> str:
    """A key whose first part that is in `names` is replaced."""
    for new, old in names.items():
        if re.search(rf"(^|\.){re.escape(new)}\.", key):
            return re.sub(rf"(^|\.){re.escape(new)}\.", rf"\g<1>{old}.", key)
    return key


def unet(network: Any) -> Tensors:
    """Blocks are numbered through: on the way down, a block begins after each downsampling."""
    layers = network.config.layers_per_block
    return {_unet_key(key, layers): tensor for key, tensor in network.state_dict().items()}


def _unet_key(key: str, layers: int) -> str:
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", key)
    if found:
        side, block, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        first = block * (layers + 1) + (1 if side == "down" else 0)
        place = f"{'input' if side == 'down' else 'output'}_blocks.{first + number}"
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            # After the attention, if the block has one; the small networks have it in their first block.
            return f"output_blocks.{first + layers}.2.{rest}"
        return f"{place}.0.{renamed(rest, RESNET)}" if kind == "resnets" else f"{place}.1.{rest}"
    if middle := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", key):
        if middle[1] == "attentions":
            return f"middle_block.1.{middle[3]}"
        return f"middle_block.{int(middle[2]) * 2}.{renamed(middle[3], RESNET)}"
    return renamed(key, UNET_ENDS)


def vae(network: Any) -> Tensors:
    """Blocks on the way up are numbered from the picture; attention is a convolution of 1 x 1."""
    last = len(network.config.up_block_types) - 1
    return dict(_vae_entry(key, tensor, last) for key, tensor in network.state_dict().items())


def _vae_entry(key: str, tensor: torch.Tensor, last: int) -> tuple[str, torch.Tensor]:
    if found := re.match(r"(.*)mid_block\.attentions\.0\.(.+)", key):
        as_convolution = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        return f"{found[1]}mid.attn_1.{renamed(found[2], ATTENTION)}", as_convolution
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d+)\.", r"down.\1.", key)
    key = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{last - int(m[1])}.", key)
    key = key.replace("resnets.", "block.").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    return key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut"), tensor


def text_model(encoder: Any) -> Tensors:
    """The tensors of a CLIP's text model, and its projection if it has one."""
    return {key.removeprefix("text_model."): tensor for key, tensor in encoder.state_dict().items()}


def open_clip(encoder: Any) -> Tensors:
    """OpenCLIP has one matrix for queries, keys and values, and its projection is transposed."""
    tensors, made = text_model(encoder), {}
    for key, tensor in tensors.items():
        layer = re.match(r"encoder\.layers\.(\d+)\.(.+)", key)
        if not layer:
            continue
        place = f"transformer.resblocks.{layer[1]}"
        if q := re.match(r"self_attn\.q_proj\.(weight|bias)", layer[2]):
            parts = [tensors[key.replace("q_proj", f"{one}_proj")] for one in "qkv"]
            made[f"{place}.attn.in_proj_{q[1]}"] = torch.cat(parts)
        elif not re.match(r"self_attn\.[kv]_proj", layer[2]):
            made[f"{place}.{renamed(layer[2], OPEN_CLIP)}"] = tensor
    made["positional_embedding"] = tensors["embeddings.position_embedding.weight"]
    made["token_embedding.weight"] = tensors["embeddings.token_embedding.weight"]
    made |= {f"ln_final.{one}": tensors[f"final_layer_norm.{one}"] for one in ("weight", "bias")}
    return made | {"text_projection": tensors["text_projection.weight"].T}
