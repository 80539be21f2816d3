"""The classes of large transformers: what makes the condition vector c of each, and which linear layers read SiLU(c).

A record a class, by diffusers' names, and a second one where published files have the names of the original code. `*`
in a name stands for the number of a block. Read from the source of diffusers 0.42.1 (models/transformers, and
loaders/single_file_utils.py for the original names); times are those that diffusers' pipelines pass.

c is a sum of parts. A part is one of

    a number     sinusoids of it, then linear, SiLU, linear: the time, the scale of the guidance
    a vector     linear, SiLU, linear: a pooled text, sizes
    a row        of an embedding table: a class
    pooled       tokens, by attention: the sum of v, weighted, then linear

A compaction covers vectors and rows by what they are called: a pooled text, sizes, a class. Of other tables all rows
are covered.

To add a class, add a record here and a tiny model of it to tests/tailprune/transformers/tiny_models.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CLASSES",
    "LARGEST_SIDE",
    "MOST_COVERED",
    "MOST_TEXTS",
    "SIDE_STEP",
    "Linears",
    "Number",
    "Part",
    "TransformerClass",
]

SIX = ("shift", "scale", "gate") * 2
THREE = ("shift", "scale", "gate")
GATES = ("scale", "gate") * 2
DISCRETE = 999
"""The largest time of a model that was trained on whole ones, of which only its scheduler knows which it takes."""
MOST_COVERED = 4096
"""The vectors that a compaction covers at most: times, texts or sizes or classes, guidance scales and rows of tables
together. In each precision that the weights have they are others, of which there are at most three."""
MOST_TEXTS = 4096
"""The pooled texts of one file at most, also where their mean alone is covered."""
SIDE_STEP, LARGEST_SIDE = 16, 4096
"""Of a model that takes the size of the picture, sides in pixels are multiples of this, as the pipeline wants, and at
most so large, so that bfloat16 holds them."""
PAIRS = ("shift", "shift", "scale", "scale", "gate", "gate")
"""Of image and text in turn."""


@dataclass(frozen=True)
class Number:
    """How a number x becomes sinusoids: cos a and sin a of a = scale f (factor x), f = 10000^(-i / (half - shift))."""

    most: float
    """The pipeline passes values from 0 to this."""
    factor: float = 1
    """What the network multiplies the number with."""
    scale: float = 1
    """What it multiplies the angles with."""
    shift: int = 0
    fixed: float | None = None
    """The pipeline's default, where it is not the time that runs."""


@dataclass(frozen=True)
class Part:
    """One summand of c."""

    what: str
    layers: tuple[str, ...]
    """Two linear layers, an embedding table, or of attention that pools tokens the layers of k with v, of its output,
    and of q."""
    number: Number | None = None
    optional: bool = False
    """Whether some models of the class have it and others do not."""
    scheduled: bool = False
    """Whether the schedule of the steps determines it, as it does the time."""
    averaged: bool = False
    """Whether the mean of it and the time is what is added, not their sum."""

    @property
    def pools(self) -> bool:
        """Whether the transformer pools tokens itself."""
        return len(self.layers) == 3

    @property
    def is_time(self) -> bool:
        """Whether it is the time of the step."""
        return self.number is not None and self.number.fixed is None


@dataclass(frozen=True)
class Linears:
    """Linear layers that read SiLU(c), and the pieces of their output in order."""

    name: str
    pieces: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()
    """The pieces of those among them that have more or fewer, each as wide as c."""
    last: bool = False
    """Whether only the last block has it."""


@dataclass(frozen=True)
class TransformerClass:
    """One class under one way of naming its tensors."""

    name: str
    """diffusers' name of the class."""
    models: str
    """Models that people know it by."""
    parts: tuple[Part, ...]
    linears: tuple[Linears, ...]
    anchor: str
    """A tensor that tells it from the classes whose other names are among its own."""
    naming: str = "diffusers"
    buffers: tuple[str, ...] = ()
    """Tensors in the files that are not parameters."""
    width: tuple[str, ...] = ("num_attention_heads", "attention_head_dim")
    """Fields of the configuration whose product is the width of c."""
    depths: tuple[tuple[str, str], ...] = ()
    """Fields of the configuration that count blocks, and a name in those blocks."""
    fixed: tuple[tuple[str, object], ...] = ()
    """Fields of the configuration with other values of which c would be made otherwise, and their value here."""
    gives: Literal["sigmas", "quadratic sigmas", "times", "steps"] = "sigmas"
    """What the pipeline gives its scheduler: sigmas from 1 to 1 / steps, evenly or as `schedule.quadratic_sigmas` has
    them; the times themselves, whole and evenly from the largest to 1; or the number of steps alone."""
    own_flow_sigmas: bool = False
    """Whether a scheduler with `use_flow_sigmas` is given none of these sigmas, and makes its own."""
    token_pixels: int | None = None
    """The pixels along one side of a token, where the pipeline shifts the schedule by the number of tokens."""
    shifts_by_root: str | None = None
    """The part of c of those models whose pipeline shifts it by the root of the tokens, relative to 256 pixels."""
    scales_first: bool = False
    """Whether the pipeline scales the time to 0 to 1 before it rounds it to half precision, and not after."""
    second_scheduler: str | None = None
    """The folder of a scheduler that runs beside the first, and makes as many times."""
    pinned: tuple[float, ...] = ()
    """Times that rows of a condition have at every step."""
    rises: bool = False
    """Whether the time rises while sampling: it is 0 at pure noise, as 1 - sigma, and not the sigma."""
    in_two_orders: bool = False
    """Whether files with these names are published with two orders of the rows of q, k and v, which no tensor tells."""

    @property
    def time(self) -> Part:
        """The part that runs while sampling."""
        return next(part for part in self.parts if part.is_time)

    @property
    def has_plain_schedule(self) -> bool:
        """Whether the times of a number of steps are known without its scheduler."""
        number = self.time.number
        assert number is not None, "the time is a number"
        return self.gives == "times" or (number.most != DISCRETE and self.gives != "quadratic sigmas")

    @property
    def whole_times(self) -> bool:
        """Whether its times are whole numbers."""
        return self.gives == "times" or (self.time.number is not None and self.time.number.most == DISCRETE)


def _mlp(module: str) -> tuple[str, str]:
    return f"{module}.linear_1", f"{module}.linear_2"


def _layers(module: str) -> tuple[str, str]:
    return f"{module}.in_layer", f"{module}.out_layer"


def _time(module: str, most: float, factor: float = 1, scale: float = 1, shift: int = 0) -> Part:
    return Part("time", _mlp(module), Number(most, factor, scale, shift))


def _guidance(module: str, most: float, factor: float, fixed: float) -> Part:
    return Part("guidance", _mlp(module), Number(most, factor, fixed=fixed), optional=True)


def _next_time(module: str, *, averaged: bool) -> Part:
    number = Number(1000, fixed=0)
    return Part("time of the next step", _mlp(module), number, optional=True, scheduled=True, averaged=averaged)


_DUAL = Linears("transformer_blocks.*.norm1.linear", SIX), Linears("transformer_blocks.*.norm1_context.linear", SIX)
_SINGLE = Linears("single_transformer_blocks.*.norm.linear", THREE)
_OUT = Linears("norm_out.linear", ("scale", "shift"))
_DEPTHS = ("num_layers", "transformer_blocks.*.norm1.linear"), ("num_single_layers", _SINGLE.name)

CLASSES = (
    TransformerClass(
        "SD3Transformer2DModel",
        "Stable Diffusion 3 and 3.5",
        (
            _time("time_text_embed.timestep_embedder", 1000),
            Part("pooled text", _mlp("time_text_embed.text_embedder")),
        ),
        (
            Linears("transformer_blocks.*.norm1.linear", SIX, ((*SIX, *THREE),)),  # SD3.5-medium: a second attention
            Linears("transformer_blocks.*.norm1_context.linear", SIX, (("scale", "shift"),)),  # the last block
            _OUT,
        ),
        anchor="pos_embed.proj.weight",
        buffers=("pos_embed.pos_embed",),
        depths=_DEPTHS[:1],
        gives="steps",
        token_pixels=16,
    ),
    TransformerClass(
        "FluxTransformer2DModel",
        "FLUX.1",
        (
            _time("time_text_embed.timestep_embedder", 1, 1000),
            _guidance("time_text_embed.guidance_embedder", 10, 1000, fixed=3.5),
            Part("pooled text", _mlp("time_text_embed.text_embedder")),
        ),
        (*_DUAL, _SINGLE, _OUT),
        anchor="x_embedder.weight",
        depths=_DEPTHS,
        own_flow_sigmas=True,
        token_pixels=16,
    ),
    TransformerClass(
        "FluxTransformer2DModel",
        "FLUX.1",
        (
            Part("time", _layers("time_in"), Number(1, 1000)),
            Part("guidance", _layers("guidance_in"), Number(10, 1000, fixed=3.5), optional=True),
            Part("pooled text", _layers("vector_in")),
        ),
        (
            Linears("double_blocks.*.img_mod.lin", SIX),
            Linears("double_blocks.*.txt_mod.lin", SIX),
            Linears("single_blocks.*.modulation.lin", THREE),
            Linears("final_layer.adaLN_modulation.1", ("shift", "scale")),
        ),
        anchor="img_in.weight",
        naming="BFL and ComfyUI",
    ),
    TransformerClass(
        "QwenImageTransformer2DModel",
        "Qwen-Image",
        (
            _time("time_text_embed.timestep_embedder", 1, scale=1000),
            Part("layered or not", ("time_text_embed.addition_t_embedding",), optional=True),
        ),
        (
            Linears("transformer_blocks.*.img_mod.1", SIX),
            Linears("transformer_blocks.*.txt_mod.1", SIX),
            _OUT,
        ),
        anchor="txt_norm.weight",
        depths=(("num_layers", "transformer_blocks.*.img_mod.1"),),
        token_pixels=16,
        shifts_by_root="layered or not",  # Qwen-Image-Layered
    ),
    TransformerClass(
        "HunyuanImageTransformer2DModel",
        "HunyuanImage 2.1",
        (
            _time("time_guidance_embed.timestep_embedder", 1000),
            _next_time("time_guidance_embed.timestep_embedder_r", averaged=True),
            _guidance("time_guidance_embed.guidance_embedder", 10_000, 1, fixed=3250),
        ),
        (*_DUAL, _SINGLE, _OUT),
        anchor="x_embedder.proj.weight",
        depths=_DEPTHS,
    ),
    TransformerClass(
        "HunyuanVideoTransformer3DModel",
        "HunyuanVideo",
        (
            _time("time_text_embed.timestep_embedder", 1000),
            _guidance("time_text_embed.guidance_embedder", 10_000, 1, fixed=6000),
            Part("pooled text", _mlp("time_text_embed.text_embedder")),
        ),
        (*_DUAL, _SINGLE, _OUT),
        anchor="context_embedder.proj_in.weight",
        depths=_DEPTHS,
    ),
    TransformerClass(
        "HunyuanVideo15Transformer3DModel",
        "HunyuanVideo 1.5",
        (_time("time_embed.timestep_embedder", 1000), _next_time("time_embed.timestep_embedder_r", averaged=False)),
        (*_DUAL, _OUT),
        anchor="cond_type_embed.weight",
        depths=_DEPTHS[:1],
    ),
    TransformerClass(
        "MiniMaxH3Transformer3DModel",
        "MiniMax-H3",
        (_time("time_embedder", 1),),
        (Linears("transformer_blocks.*.adaln_proj.linear", SIX * 3), Linears("norm_out.linear", ("shift", "scale"))),
        anchor="audio_proj_in.weight",
        width=("time_embed_dim",),
        depths=(("num_layers", "transformer_blocks.*.adaln_proj.linear"),),
        gives="steps",
        rises=True,
        second_scheduler="audio_scheduler",
        pinned=(0.999, 1.0),  # pictures and sounds that are given
    ),
    TransformerClass(
        "MiniMaxH3Transformer3DModel",
        "MiniMax-H3",
        (Part("time", ("time_embedder.proj_in", "time_embedder.proj_out"), Number(1)),),
        (
            Linears("blocks.*.adaln_proj.linear", SIX * 3),
            Linears("final_layer.adaln_proj.linear", ("shift", "scale")),
        ),
        anchor="audio_patch_proj.weight",
        width=("time_embed_dim",),
        naming="MiniMax and ComfyUI",
        buffers=("rope.inv_freq",),
        gives="steps",
        rises=True,
        in_two_orders=True,
    ),
    TransformerClass(
        "AuraFlowTransformer2DModel",
        "AuraFlow",
        (_time("time_step_proj", 1, scale=1000),),
        (
            Linears("joint_transformer_blocks.*.norm1.linear", SIX),
            Linears("joint_transformer_blocks.*.norm1_context.linear", SIX),
            Linears("single_transformer_blocks.*.norm1.linear", SIX),
            _OUT,
        ),
        anchor="register_tokens",
        depths=(
            ("num_mmdit_layers", "joint_transformer_blocks.*.norm1.linear"),
            ("num_single_dit_layers", "single_transformer_blocks.*.norm1.linear"),
        ),
        gives="steps",
        scales_first=True,
    ),
    TransformerClass(
        "MochiTransformer3DModel",
        "Mochi 1",
        (
            _time("time_embed.timestep_embedder", 1000),
            Part("pooled text", ("time_embed.pooler.to_kv", "time_embed.pooler.to_out", "time_embed.pooler.to_q")),
        ),
        (
            Linears("transformer_blocks.*.norm1.linear", GATES),
            Linears("transformer_blocks.*.norm1_context.linear", GATES),
            Linears("transformer_blocks.*.norm1_context.linear_1", ("scale",), last=True),
            _OUT,
        ),
        anchor="pos_frequencies",
        depths=_DEPTHS[:1],
        gives="quadratic sigmas",
        rises=True,
    ),
    TransformerClass(
        "HiDreamImageTransformer2DModel",
        "HiDream-I1",
        (
            _time("t_embedder.timestep_embedder", 1000),
            Part("pooled text", _mlp("p_embedder.pooled_embedder")),
        ),
        (
            Linears("double_stream_blocks.*.block.adaLN_modulation.1", SIX * 2),
            Linears("single_stream_blocks.*.block.adaLN_modulation.1", SIX),
            Linears("final_layer.adaLN_modulation.1", ("shift", "scale")),
        ),
        anchor="caption_projection.0.linear.weight",
        depths=(
            ("num_layers", "double_stream_blocks.*.block.adaLN_modulation.1"),
            ("num_single_layers", "single_stream_blocks.*.block.adaLN_modulation.1"),
        ),
        gives="steps",
    ),
    TransformerClass(
        "OvisImageTransformer2DModel",
        "Ovis-Image",
        (_time("timestep_embedder", 1, 1000),),
        (*_DUAL, _SINGLE, _OUT),
        anchor="context_embedder_norm.weight",
        depths=_DEPTHS,
        own_flow_sigmas=True,
        token_pixels=16,
    ),
    TransformerClass(
        "LongCatImageTransformer2DModel",
        "LongCat-Image",
        (_time("time_embed.timestep_embedder", 1, 1000),),
        (*_DUAL, _SINGLE, _OUT),
        anchor="x_embedder.weight",
        depths=_DEPTHS,
        token_pixels=16,
    ),
    TransformerClass(
        "CogVideoXTransformer3DModel",
        "CogVideoX",
        (
            _time("time_embedding", 999),
            Part("offset of frames", _mlp("ofs_embedding"), Number(1000, fixed=2), optional=True),
        ),
        (
            Linears("transformer_blocks.*.norm1.linear", SIX),
            Linears("transformer_blocks.*.norm2.linear", SIX),
            Linears("norm_out.linear", ("shift", "scale")),
        ),
        anchor="patch_embed.text_proj.weight",
        width=("time_embed_dim",),
        buffers=("patch_embed.pos_embedding",),
        depths=(("num_layers", "transformer_blocks.*.norm2.linear"),),
        fixed=(("flip_sin_to_cos", True), ("freq_shift", 0), ("timestep_activation_fn", "silu")),
        gives="steps",
    ),
    TransformerClass(
        "CogView4Transformer2DModel",
        "CogView4",
        (
            _time("time_condition_embed.timestep_embedder", 1000),
            Part("sizes", _mlp("time_condition_embed.condition_embedder")),
        ),
        # SiLU is taken once for all of them, in the transformer's forward
        (Linears("transformer_blocks.*.norm1.linear", PAIRS * 2), _OUT),
        anchor="patch_embed.text_proj.weight",
        width=("time_embed_dim",),
        depths=_DEPTHS[:1],
        gives="times",
    ),
    TransformerClass(
        "DiTTransformer2DModel",
        "DiT",
        (  # a copy in each block; the final layer reads that of the first
            _time("transformer_blocks.*.norm1.emb.timestep_embedder", 999, shift=1),
            Part("class", ("transformer_blocks.*.norm1.emb.class_embedder.embedding_table",)),
        ),
        (Linears("transformer_blocks.*.norm1.linear", SIX), Linears("proj_out_1", ("shift", "scale"))),
        anchor="proj_out_2.weight",
        depths=_DEPTHS[:1],
        gives="steps",
    ),
)
