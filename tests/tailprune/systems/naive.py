"""The published networks written out slowly, from their papers and the facts of the reference cases, in float64.

Plain functions over a state dict: nothing here calls the project.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]
Change = Callable[[Tensor, str], Tensor]
"""What becomes of one head's queries or keys, with shape (N, w); the word is `q` or `k`."""


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs.double()).norm() / theirs.double().norm()).item()


# Functions


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.erf(x / math.sqrt(2)))


def tanh_gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)


def weighted_layer_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    return layer_norm(x, eps) * state[f"{name}.weight"] + state[f"{name}.bias"]


def rms_norm(state: State, name: str, x: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6) * state[f"{name}.weight"]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


# Embedders


def embed_number(state: State, name: str, number: Tensor, width: int = 256) -> Tensor:
    half = width // 2
    angles = torch.stack([number.double() * math.exp(-math.log(10000) * k / half) for k in range(half)], dim=1)
    features = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    return linear(state, f"{name}.mlp.2", silu(linear(state, f"{name}.mlp.0", features)))


def label_condition(state: State, t: Tensor, labels: Tensor, scale: Tensor | None = None) -> Tensor:
    c = embed_number(state, "t_embedder", t) + state["y_embedder.embedding_table.weight"][labels]
    return c if scale is None else c + embed_number(state, "s_embedder", scale)


def patches(state: State, x: Tensor) -> Tensor:
    weight, bias = state["x_embedder.proj.weight"], state["x_embedder.proj.bias"]
    p = weight.shape[-1]
    tokens = [
        torch.einsum("bcij,dcij->bd", x[:, :, i : i + p, j : j + p].double(), weight) + bias
        for i in range(0, x.shape[2], p)
        for j in range(0, x.shape[3], p)
    ]
    return torch.stack(tokens, dim=1) + state["pos_embed"]


def image(tokens: Tensor, p: int, grid: tuple[int, int]) -> Tensor:
    channels = tokens.shape[2] // p**2
    out = torch.zeros(len(tokens), channels, grid[0] * p, grid[1] * p, dtype=tokens.dtype)
    for n in range(tokens.shape[1]):
        row, column = divmod(n, grid[1])
        for i in range(p):
            for j in range(p):
                begin = (i * p + j) * channels
                out[:, :, row * p + i, column * p + j] = tokens[:, n, begin : begin + channels]
    return out


# Attention


def attention(
    state: State, name: str, x: Tensor, heads: int, change: Change | None = None, bias: Tensor | None = None
) -> Tensor:
    d = x.shape[-1]
    width = d // heads
    qkv = linear(state, f"{name}.qkv", x)
    samples = []
    for sample in qkv:
        mixed = []
        for head in range(heads):
            q, k, v = (sample[:, part * d + head * width : part * d + (head + 1) * width] for part in range(3))
            if change is not None:
                q, k = change(q, "q"), change(k, "k")
            scores = q @ k.T / math.sqrt(width)
            if bias is not None:
                scores = scores + bias[head]
            weights = torch.exp(scores - scores.amax(1, keepdim=True))
            mixed.append(weights / weights.sum(1, keepdim=True) @ v)
        samples.append(torch.cat(mixed, dim=1))
    return linear(state, f"{name}.proj", torch.stack(samples))


def rotary_angle(position: int, pair: int, width: int, side: int) -> float:
    """The angle of one pair of a head at one position of a square grid: rows for the first half, columns for the rest.

    Half a head has the frequencies 10000^(-2k / (width / 2)), k counting its pairs.
    """
    row, column = divmod(position, side)
    along, k = (row, pair) if pair < width // 4 else (column, pair - width // 4)
    return along * 10000 ** (-2 * k / (width / 2))


def rotate(x: Tensor, side: int) -> Tensor:
    """x, with shape (N, w), as N rows of w / 2 complex numbers, each turned by its angle."""
    positions, width = x.shape
    turns = [[cmath.exp(1j * rotary_angle(n, k, width, side)) for k in range(width // 2)] for n in range(positions)]
    turned = torch.view_as_complex(x.double().reshape(positions, -1, 2)) * torch.tensor(turns, dtype=torch.complex128)
    return torch.view_as_real(turned).reshape(positions, width)


def rotary_buffers(side: int, width: int) -> dict[str, Tensor]:
    angles = torch.tensor([[rotary_angle(n, k // 2, width, side) for k in range(width)] for n in range(side**2)])
    return {"feat_rope.freqs_cos": torch.cos(angles), "feat_rope.freqs_sin": torch.sin(angles)}


def offset_index(grid: tuple[int, int]) -> Tensor:
    """The row of a BEiT table for every pair of patches: their offset, counted from the most negative."""
    h, w = grid
    place = torch.tensor([divmod(n, w) for n in range(h * w)])  # (N, 2)
    offset = place[:, None] - place[None, :]
    return (offset[..., 0] + h - 1) * (2 * w - 1) + offset[..., 1] + w - 1


def relative_bias(state: State, name: str, grid: tuple[int, int]) -> Tensor:
    table = state[f"{name}.rel_pos_bias.relative_position_bias_table"]
    return torch.stack([table[:, head][offset_index(grid)] for head in range(table.shape[1])])


# Blocks


def modulated(x: Tensor, shift: Tensor | float, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def chunks(state: State, name: str, c: Tensor, count: int) -> list[Tensor]:
    out = linear(state, f"{name}.adaLN_modulation.1", silu(c))
    width = out.shape[1] // count
    return [out[:, None, i * width : (i + 1) * width] for i in range(count)]


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.fc2", tanh_gelu(linear(state, f"{name}.fc1", x)))


def block(
    state: State,
    name: str,
    x: Tensor,
    c: Tensor,
    heads: int,
    change: Change | None = None,
    grid: tuple[int, int] | None = None,
) -> Tensor:
    """A block of DiT; with a grid, one of the masked transformers, which adds a relative position bias."""
    shift1, scale1, gate1, shift2, scale2, gate2 = chunks(state, name, c, 6)
    bias = None if grid is None else relative_bias(state, f"{name}.attn", grid)
    x = x + gate1 * attention(state, f"{name}.attn", modulated(layer_norm(x), shift1, scale1), heads, change, bias)
    return x + gate2 * mlp(state, f"{name}.mlp", modulated(layer_norm(x), shift2, scale2))


def final(state: State, x: Tensor, c: Tensor, norm: Callable[[Tensor], Tensor], grid: tuple[int, int]) -> Tensor:
    shift, scale = chunks(state, "final_layer", c, 2)
    p = state["x_embedder.proj.weight"].shape[-1]
    return image(linear(state, "final_layer.linear", modulated(norm(x), shift, scale)), p, grid)


# Networks


def square(state: State) -> tuple[int, int]:
    side = math.isqrt(state["pos_embed"].shape[1])
    return side, side


def dit(state: State, x: Tensor, c: Tensor, *, depth: int, heads: int, qk_norm: bool = False) -> Tensor:
    tokens = patches(state, x)
    for i in range(depth):

        def change(a: Tensor, of: str, name: str = f"blocks.{i}.attn") -> Tensor:
            return weighted_layer_norm(state, f"{name}.{of}_norm", a, eps=1e-5)

        tokens = block(state, f"blocks.{i}", tokens, c, heads, change if qk_norm else None)
    return final(state, tokens, c, layer_norm, square(state))


def lightningdit(
    state: State,
    x: Tensor,
    c: Tensor,
    *,
    depth: int,
    heads: int,
    use_qknorm: bool,
    use_swiglu: bool,
    use_rope: bool,
    use_rmsnorm: bool,
    wo_shift: bool,
) -> Tensor:
    def norm(name: str, a: Tensor) -> Tensor:
        return rms_norm(state, name, a) if use_rmsnorm else layer_norm(a)

    def feed_forward(name: str, a: Tensor) -> Tensor:
        if not use_swiglu:
            return mlp(state, name, a)
        both = linear(state, f"{name}.w12", a)
        hidden = both.shape[-1] // 2
        return linear(state, f"{name}.w3", silu(both[..., :hidden]) * both[..., hidden:])

    tokens = patches(state, x)
    for i in range(depth):
        name = f"blocks.{i}"

        def change(a: Tensor, of: str, name: str = name) -> Tensor:
            if use_qknorm and use_rmsnorm:
                a = rms_norm(state, f"{name}.attn.{of}_norm", a)
            elif use_qknorm:
                a = weighted_layer_norm(state, f"{name}.attn.{of}_norm", a, eps=1e-5)
            return rotate(a, square(state)[0]) if use_rope else a

        if wo_shift:
            scale1, gate1, scale2, gate2 = chunks(state, name, c, 4)
            shift1 = shift2 = 0.0
        else:
            shift1, scale1, gate1, shift2, scale2, gate2 = chunks(state, name, c, 6)  # type: ignore[assignment]
        attended = modulated(norm(f"{name}.norm1", tokens), shift1, scale1)
        tokens = tokens + gate1 * attention(state, f"{name}.attn", attended, heads, change)
        tokens = tokens + gate2 * feed_forward(f"{name}.mlp", modulated(norm(f"{name}.norm2", tokens), shift2, scale2))
    return final(state, tokens, c, lambda a: norm("final_layer.norm_final", a), square(state))


def mdt(state: State, x: Tensor, c: Tensor, *, half: int, decode_layer: int, heads: int) -> Tensor:
    grid = square(state)
    first = tokens = patches(state, x)
    outputs = []
    for i in range(half):
        tokens = block(state, f"en_inblocks.{i}", tokens, c, heads, grid=grid)
        outputs.append(tokens)
    for i in range(half):
        name = f"en_outblocks.{i}"
        tokens = linear(state, f"{name}.skip_linear", torch.cat([tokens, outputs[half - 1 - i]], dim=-1))
        tokens = block(state, name, tokens, c, heads, grid=grid)
    tokens = tokens + state["decoder_pos_embed"]
    for i in range(decode_layer):
        name = f"de_blocks.{i}"
        tokens = linear(state, f"{name}.skip_linear", torch.cat([tokens, first], dim=-1))
        tokens = block(state, name, tokens, c, heads, grid=grid)
    return final(state, tokens, c, layer_norm, grid)


def masked(
    state: State, x: Tensor, c: Tensor, *, grid: tuple[int, int], depth: int, decode_layer: int, heads: int
) -> Tensor:
    """X-MDPT's and MDSGen's network."""
    tokens = patches(state, x)
    for i in range(depth):
        if depth - i == decode_layer:
            tokens = tokens + state["decoder_pos_embed"]
        tokens = block(state, f"blocks.{i}", tokens, c, heads, grid=grid)
    return final(state, tokens, c, layer_norm, grid)


def projected(state: State, name: str, x: Tensor) -> Tensor:
    return weighted_layer_norm(state, f"{name}.2", gelu(linear(state, f"{name}.0", x.double())), eps=1e-12)


def mixed(state: State, name: str, tokens: Tensor) -> Tensor:
    weights, bias = state[f"{name}.0.weight"], state[f"{name}.0.bias"]
    one = bias + sum(weights[0, n, 0] * tokens[:, n] for n in range(tokens.shape[1]))
    return weighted_layer_norm(state, f"{name}.2", gelu(one), eps=1e-12)


def x_mdpt_part(state: State, inputs: Mapping[str, Tensor]) -> Tensor:
    pose = mixed(state, "conv1d_pose", projected(state, "mlp_dino_pose", inputs["pose"]))
    picture = mixed(state, "conv1d_global", projected(state, "mlp_dino_img", inputs["image"]))
    local = mixed(state, "conv1d_local", patches(state, inputs["latents"]))
    return projected(state, "mlp_final", pose + picture + local)


def mdsgen_part(state: State, inputs: Mapping[str, Tensor]) -> Tensor:
    return mixed(state, "conv1d_feat", projected(state, "mlp_feat", inputs["video"]))
