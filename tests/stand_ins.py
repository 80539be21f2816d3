"""Small networks that are called as the published ones, and files of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

__all__ = ["Inception", "Vgg", "scripted", "write_clip"]


class Inception(nn.Module):
    """Called as the published network; features are the mean colours, spread over 2048."""

    def __init__(self, features: int = 2048, classes: int = 1008) -> None:
        super().__init__()
        self.spread = nn.Linear(3, features)
        self.output = nn.Linear(features, classes)

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        features = self.spread(img.float().mean((2, 3)) / 255)
        if return_features:
            return features
        bias = None if no_output_bias else self.output.bias
        return torch.nn.functional.linear(features, self.output.weight, bias).softmax(1)


class Vgg(nn.Module):
    """Called as NVIDIA's vgg16.pt; features are the mean colours, in [0, 255]."""

    def forward(self, img: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips
        assert not resize_images
        return img.mean((2, 3))


def scripted(module: nn.Module, path: Path) -> Path:
    torch.manual_seed(0)
    torch.jit.script(module).save(str(path))
    return path


def write_clip(folder: Path) -> Path:
    """A CLIPModel of random weights, with its image processor and a tokenizer of single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    start, end = len(words) - 2, len(words) - 1
    text = {"vocab_size": len(words), "max_position_embeddings": 12, "bos_token_id": start, "eos_token_id": end}
    config = CLIPConfig(
        text_config=layers | text | {"pad_token_id": end},
        vision_config=layers | {"image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    torch.manual_seed(2)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
