"""Products, attention and GELU, each in the form that was measured fastest on this CPU; on a GPU, torch's own.

    form                what it is
    linear, own         torch's layer, on a BLAS in float32
    convolution         oneDNN's 1 x 1 convolution: the same products, divided among threads in another way
    packed              oneDNN's product with weights that were rearranged once
    fused, own          torch's attention kernel
    products            softmax(q k^T) v by two products
    tanh, own           torch's GELU
    sigmoid             x sigmoid(2u) in four passes

`tailprune.systems.choices` times them once for each shape and precision, and keeps what it chose. A choice does not
depend on the number of samples, so a sample is computed alike in any batch; the last digits depend on the form, and on
the number of threads. Where gradients are taken or a compiler is at work, layers are torch's own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tailprune.systems.choices import Choice, Forms, Layer, choice_of, recording

__all__ = ["FORMS", "attend", "choice_for", "forms_of", "linear", "packing", "tanh_gelu"]

MEASURED_TOKENS, MEASURED_NUMBERS = 2048, 2**20
"""The most tokens, and tokens x width, that a layer is timed with: the batches that a CPU samples in."""

_packed: ContextVar[dict[int, tuple[Tensor, Tensor]] | None] = ContextVar("packed", default=None)
"""Weights and what they were packed into, by the weight's id."""


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b. x, with shape (B, N, in) -> (B, N, out)."""
    if x.dim() != 3 or not _chooses(x):
        return F.linear(x, weight, bias)
    layer = Layer("linear", (x.shape[1], weight.shape[1], weight.shape[0]), x.dtype)
    return _in_form(layer, (*x.shape[:2], len(weight)), x, weight, bias)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(w) + bias) v. q, k, v, with shape (B, heads, N, w) -> the same shape."""
    if not _chooses(q):
        return _fused(q, k, v, bias)
    kind = "attention" if bias is None else "attention with bias"
    return _in_form(Layer(kind, tuple(q.shape[1:]), q.dtype), q.shape, q, k, v, bias)


def tanh_gelu(x: Tensor) -> Tensor:
    """x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3). x, with shape (B, N, d) -> the same."""
    if x.dim() != 3 or not _chooses(x):
        return _tanh(x)
    return _in_form(Layer("GELU", tuple(x.shape[1:]), x.dtype), x.shape, x)


@contextlib.contextmanager
def packing() -> Iterator[None]:
    """Pack weights within the context, where that is their form, and keep them until its end.

    The weights must not change within it. Outside of it such a layer is torch's own.
    """
    token = _packed.set({})
    try:
        yield
    finally:
        _packed.reset(token)


def choice_for(layer: Layer) -> Choice | None:
    """The choice for a layer; None where none can be kept, and the layer is torch's own."""
    return choice_of(layer, FORMS[layer.kind], forms_of)


def forms_of(layer: Layer) -> Forms:
    """A layer in each of its forms, on random numbers."""
    numbers = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=numbers, device="cpu").to(layer.dtype)

    match layer.kind, layer.sizes:
        case "linear", (tokens, inputs, outputs):
            samples = _samples(tokens, min(inputs, outputs))
            x, weight, bias = random(samples, tokens, inputs), random(outputs, inputs) * inputs**-0.5, random(outputs)
            kept: dict[int, tuple[Tensor, Tensor]] = {}
            calls = {name: _first(form, (x,), weight, bias) for name, form in LINEAR.items()}
            calls["packed"] = lambda count: _product(x[:count], _pack(weight, kept), bias)
        case (("attention" | "attention with bias"), (heads, tokens, width)):
            samples = _samples(tokens, heads * width)
            q, k, v = random(samples, tokens, 3, heads, width).permute(2, 0, 3, 1, 4)  # as they lie in a block
            added = random(heads, tokens, tokens) if layer.kind == "attention with bias" else None
            calls = {name: _first(form, (q, k, v), added) for name, form in ATTENTION.items()}
        case "GELU", (tokens, width):
            samples = _samples(tokens, width // 4)
            x = random(samples, tokens, width)
            calls = {name: _first(form, (x,)) for name, form in GELU.items()}
        case _:
            raise AssertionError(f"there is no layer {layer}")
    return Forms(samples, calls)


def _in_form(layer: Layer, shape: Sequence[int], x: Tensor, *rest: Tensor | None) -> Tensor:
    """A layer's output in the form that was chosen for it; zeros of its shape where layers are only counted."""
    choice, forms = choice_for(layer), FORMS[layer.kind]
    if recording():
        return x.new_zeros(shape)
    return forms[next(iter(forms)) if choice is None else choice.form](x, *rest)


def _chooses(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _samples(tokens: int, width: int) -> int:
    """The number of samples that a layer is timed with."""
    return max(2, min(MEASURED_TOKENS, MEASURED_NUMBERS // max(1, width)) // tokens)


def _first(form: Callable[..., Tensor], batched: Sequence[Tensor], *rest: Tensor | None) -> Callable[[int], Tensor]:
    return lambda count: form(*(tensor[:count] for tensor in batched), *rest)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    row = x.transpose(1, 2).unsqueeze(2)  # (B, in, 1, N), channels last as it lies in memory
    return F.conv2d(row, weight[:, :, None, None], bias).squeeze(2).transpose(1, 2)


def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if (kept := _packed.get()) is None:
        return F.linear(x, weight, bias)
    return _product(x, _pack(weight, kept), bias)


# Operators of torch that are not public: where a version or a CPU lacks them, measuring leaves the packed form out.


def _pack(weight: Tensor, kept: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
    if id(weight) not in kept:
        kept[id(weight)] = weight, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), MEASURED_TOKENS)
    return kept[id(weight)][1]


def _product(x: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return product


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    queries, keys, values = (part.flatten(0, 1) for part in (q, k, v))  # (B * heads, N, w)
    ignored = queries.new_empty(1, 1, 1)
    scores = torch.baddbmm(ignored, queries, keys.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    if bias is not None:
        scores = (scores.unflatten(0, q.shape[:2]) + bias).flatten(0, 1)
    return torch.bmm(scores.softmax(-1), values).unflatten(0, q.shape[:2])


def _tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _sigmoid(x: Tensor) -> Tensor:
    twice = math.sqrt(8 / math.pi)
    inner = torch.addcmul(x.new_tensor(twice), x, x, value=0.044715 * twice).mul_(x)
    return inner.sigmoid_().mul_(x)


LINEAR: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": F.linear, "convolution": _convolution, "packed": _packed_linear
}  # fmt: skip
ATTENTION: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {
    "fused": _fused, "products": _products
}  # fmt: skip
GELU: dict[str, Callable[[Tensor], Tensor]] = {"tanh": _tanh, "sigmoid": _sigmoid}
FORMS: Mapping[str, Mapping[str, Callable[..., Tensor]]] = {
    "linear": LINEAR, "attention": ATTENTION, "attention with bias": ATTENTION, "GELU": GELU
}  # fmt: skip
"""The forms of each kind of layer, torch's own first."""
