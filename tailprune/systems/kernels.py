"""Products, attention and GELU, each in the form that is fastest on a CPU; on a GPU, torch's own."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CONVOLVED_TOKENS", "attend", "linear", "tanh_gelu"]

CONVOLVED_TOKENS = 256
"""The number of tokens from which a product is a convolution on a CPU, whose call costs 20 us more."""


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b. x, with shape (B, N, in) -> (B, N, out).

    On a CPU without gradients, float32 goes through oneDNN's 1 x 1 convolution: the same products, which it divides
    among threads better than the BLAS behind torch's linear layer, with the bias fused. The choice for a sample does
    not depend on the others of its batch; the last digits depend on the number of threads.
    """
    if not _convolves(x):
        return F.linear(x, weight, bias)
    row = x.transpose(1, 2).unsqueeze(2)  # (B, in, 1, N), channels last as it lies in memory
    return F.conv2d(row, weight[:, :, None, None], bias).squeeze(2).transpose(1, 2)


def _convolves(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling():  # a compiler chooses for itself
        return False
    if x.dim() != 3 or x.shape[1] < CONVOLVED_TOKENS:
        return False
    return torch.get_num_threads() > 1 and torch.backends.mkldnn.is_available()


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(w) + bias) v. q, k, v, with shape (B, heads, N, w) -> the same shape.

    torch's fused kernel, except on a CPU with a bias or in bfloat16, where two products take less time.
    """
    if q.device.type != "cpu" or (bias is None and q.dtype == torch.float32):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    queries, keys, values = (part.flatten(0, 1) for part in (q, k, v))  # (B * heads, N, w)
    ignored = queries.new_empty(1, 1, 1)
    scores = torch.baddbmm(ignored, queries, keys.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    if bias is not None:
        scores = (scores.unflatten(0, q.shape[:2]) + bias).flatten(0, 1)
    return torch.bmm(scores.softmax(-1), values).unflatten(0, q.shape[:2])


def tanh_gelu(x: Tensor) -> Tensor:
    """x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3). x, with any shape -> the same shape.

    torch's kernel, except on a CPU without gradients, where its tanh takes longer than the whole second form.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.gelu(x, approximate="tanh")
    twice = math.sqrt(8 / math.pi)
    inner = (x * x).mul_(0.044715 * twice).add_(twice).mul_(x)
    return inner.sigmoid_().mul_(x)
