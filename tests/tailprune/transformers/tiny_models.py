"""A tiny random model of each class, of diffusers' own class, and what its forward takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROPE = (4, 6, 6)
SMALL: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2}


@dataclass(frozen=True)
class TinyModel:
    """One configuration, and a call of its forward."""

    name: str
    config: dict[str, Any]
    inputs: Callable[[], dict[str, Any]]

    def build(self) -> nn.Module:
        """A random model of diffusers' class, all of whose parameters count: none is zero or one."""
        import diffusers

        torch.manual_seed(0)
        model = getattr(diffusers, self.name)(**self.config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model.requires_grad_(False).eval()

    def save(self, folder: Path, **how: Any) -> nn.Module:
        """The model, saved by diffusers in a folder."""
        model = self.build()
        model.save_pretrained(folder, **how)
        return model


def _time(value: float) -> Tensor:
    return torch.tensor([value])


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _packed(timestep: float, **more: Any) -> dict[str, Any]:
    """The inputs of models with a sequence of patches, as FLUX."""
    return {
        "hidden_states": _noise(1, 4, 4),
        "encoder_hidden_states": _noise(1, 3, 16),
        "timestep": _time(timestep),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(3, 3),
        **more,
    }


TINY = {
    "sd3": TinyModel(
        "SD3Transformer2DModel",
        {
            **SMALL,
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 3,
            "joint_attention_dim": 16,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 24,
            "pos_embed_max_size": 8,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 3, 16),
            "pooled_projections": _noise(1, 24),
            "timestep": _time(700.0),
        },
    ),
    "flux": TinyModel(
        "FluxTransformer2DModel",
        {
            **SMALL,
            "in_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 24,
            "guidance_embeds": True,
            "axes_dims_rope": ROPE,
        },
        lambda: _packed(0.7, pooled_projections=_noise(1, 24), guidance=torch.tensor([3.5])),
    ),
    "flux-schnell": TinyModel(
        "FluxTransformer2DModel",
        {
            **SMALL,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 24,
            "guidance_embeds": False,
            "axes_dims_rope": ROPE,
        },
        lambda: _packed(0.7, pooled_projections=_noise(1, 24)),
    ),
    "qwen": TinyModel(
        "QwenImageTransformer2DModel",
        {
            **SMALL,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            "joint_attention_dim": 16,
            "axes_dims_rope": ROPE,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 16),
            "encoder_hidden_states": _noise(1, 3, 16),
            "encoder_hidden_states_mask": torch.ones(1, 3, dtype=torch.int64),
            "timestep": _time(0.7),
            "img_shapes": [[(1, 2, 2)]],
        },
    ),
    "hunyuan-image": TinyModel(
        "HunyuanImageTransformer2DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 1,
            "patch_size": (1, 1),
            "guidance_embeds": True,
            "text_embed_dim": 16,
            "rope_axes_dim": (8, 8),
            "use_meanflow": True,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 2, 2),
            "encoder_hidden_states": _noise(1, 3, 16),
            "encoder_attention_mask": torch.ones(1, 3),
            "timestep": _time(700.0),
            "timestep_r": _time(600.0),
            "guidance": torch.tensor([3250.0]),
        },
    ),
    "hunyuan-video": TinyModel(
        "HunyuanVideoTransformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 1,
            "text_embed_dim": 16,
            "pooled_projection_dim": 8,
            "rope_axes_dim": ROPE,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 2, 4, 4),
            "encoder_hidden_states": _noise(1, 3, 16),
            "encoder_attention_mask": torch.ones(1, 3),
            "pooled_projections": _noise(1, 8),
            "timestep": _time(700.0),
            "guidance": torch.tensor([6000.0]),
        },
    ),
    "hunyuan-video-15": TinyModel(
        "HunyuanVideo15Transformer3DModel",
        {
            **SMALL,
            "in_channels": 9,
            "out_channels": 4,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "text_embed_dim": 16,
            "text_embed_2_dim": 12,
            "image_embed_dim": 8,
            "rope_axes_dim": ROPE,
            "target_size": 16,
            "use_meanflow": True,
        },
        lambda: {
            "hidden_states": _noise(1, 9, 2, 2, 2),
            "encoder_hidden_states": _noise(1, 3, 16),
            "encoder_attention_mask": torch.ones(1, 3),
            "encoder_hidden_states_2": _noise(1, 2, 12),
            "encoder_attention_mask_2": torch.ones(1, 2),
            "image_embeds": _noise(1, 2, 8),
            "timestep": _time(700.0),
            "timestep_r": _time(600.0),
        },
    ),
    "minimax-h3": TinyModel(
        "MiniMaxH3Transformer3DModel",
        {
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "hidden_size": 64,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "ffn_dim": 64,
            "in_channels": 4,
            "audio_in_channels": 4,
            "text_dim": 16,
            "freq_dim": 32,
            "time_embed_hidden_dim": 48,
            "time_embed_dim": 24,
            "rope_freq_dim": 4,
        },
        lambda: {
            "hidden_states": _noise(1, 2, 16),
            "audio_hidden_states": _noise(1, 2, 4),
            "encoder_hidden_states": _noise(1, 2, 16),
            "timestep": torch.tensor([0.7, 0.2]),
            "timestep_indices": torch.tensor([0, 0, 0, 1, 0, 1]),
            "token_tags": torch.tensor([1, 1, 0, 0, 2, 2]),
            "position_ids": torch.arange(18).reshape(6, 3) % 5,
            "text_indices": torch.tensor([0, 1]),
            "video_indices": torch.tensor([2, 3]),
            "audio_indices": torch.tensor([4, 5]),
        },
    ),
    "auraflow": TinyModel(
        "AuraFlowTransformer2DModel",
        {
            **SMALL,
            "sample_size": 8,
            "num_mmdit_layers": 2,
            "num_single_dit_layers": 2,
            "joint_attention_dim": 16,
            "caption_projection_dim": 32,
            "pos_embed_max_size": 16,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 3, 16),
            "timestep": _time(0.7),
        },
    ),
    "mochi": TinyModel(
        "MochiTransformer3DModel",
        {
            **SMALL,
            "num_layers": 3,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 16,
            "time_embed_dim": 16,
            "max_sequence_length": 8,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 2, 4, 4),
            "encoder_hidden_states": _noise(1, 3, 16),
            "encoder_attention_mask": torch.ones(1, 3, dtype=torch.bool),
            "timestep": _time(700.0),
        },
    ),
    "hidream": TinyModel(
        "HiDreamImageTransformer2DModel",
        {
            **SMALL,
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "caption_channels": [16, 16],
            "text_emb_dim": 24,
            "num_routed_experts": 2,
            "num_activated_experts": 1,
            "axes_dims_rope": (8, 4, 4),
            "max_resolution": (16, 16),
            "llama_layers": [0, 1],
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "timesteps": _time(700.0),
            "encoder_hidden_states_t5": _noise(1, 3, 16),
            "encoder_hidden_states_llama3": _noise(2, 1, 3, 16),
            "pooled_embeds": _noise(1, 24),
        },
    ),
    "ovis": TinyModel(
        "OvisImageTransformer2DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "joint_attention_dim": 16,
            "axes_dims_rope": ROPE,
        },
        lambda: _packed(0.7),
    ),
    "longcat": TinyModel(
        "LongCatImageTransformer2DModel",
        {
            **SMALL,
            "in_channels": 4,
            "num_layers": 2,
            "num_single_layers": 2,
            "joint_attention_dim": 16,
            "pooled_projection_dim": 16,
            "axes_dims_rope": ROPE,
        },
        lambda: _packed(0.7),
    ),
    "cogvideox": TinyModel(
        "CogVideoXTransformer3DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "time_embed_dim": 8,
            "text_embed_dim": 16,
            "num_layers": 2,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 5,
            "max_text_seq_length": 3,
            "ofs_embed_dim": 8,
            "use_rotary_positional_embeddings": False,
        },
        lambda: {
            "hidden_states": _noise(1, 2, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 3, 16),
            "timestep": torch.tensor([700]),
            "ofs": torch.tensor([2.0]),
        },
    ),
    "cogview4": TinyModel(
        "CogView4Transformer2DModel",
        {
            **SMALL,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "text_embed_dim": 16,
            "time_embed_dim": 8,
            "condition_dim": 4,
            "rope_axes_dim": (8, 8),
            "sample_size": 8,
        },
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "encoder_hidden_states": _noise(1, 16, 16),
            "timestep": _time(700.0),
            "original_size": torch.tensor([[64.0, 64.0]]),
            "target_size": torch.tensor([[64.0, 64.0]]),
            "crop_coords": torch.tensor([[0.0, 0.0]]),
        },
    ),
    "dit": TinyModel(
        "DiTTransformer2DModel",
        {**SMALL, "in_channels": 4, "num_layers": 2, "sample_size": 8, "num_embeds_ada_norm": 10},
        lambda: {
            "hidden_states": _noise(1, 4, 8, 8),
            "timestep": torch.tensor([700]),
            "class_labels": torch.tensor([3]),
        },
    ),
}


def share_embedders(model: nn.Module) -> None:
    """Make the embedders of all blocks of a DiT equal, as in converted checkpoints."""
    blocks = getattr(model, "transformer_blocks", [])
    embedders = [block.norm1.emb for block in blocks if getattr(getattr(block, "norm1", None), "emb", None) is not None]
    for embedder in embedders[1:]:
        embedder.load_state_dict(embedders[0].state_dict())


@torch.no_grad()
def inputs_of_linears(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """What each linear layer of a model reads in one call, by the name of the layer."""
    read: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, arguments, name=name: read.update({name: arguments[0].clone()}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    model(**inputs)
    for hook in hooks:
        hook.remove()
    return read
