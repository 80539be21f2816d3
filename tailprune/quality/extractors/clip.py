"""Features of images and of texts in one space: CLIP (arXiv 2103.00020), by transformers."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.quality.extractors.base import Extracted, ExtractorError
from tailprune.quality.extractors.torchscript import named
from tailprune.quality.files import digest_of_files
from tailprune.quality.images import check_images

__all__ = ["ClipFeatures", "load_clip"]

FIT = "a folder of a CLIPModel of transformers, such as a download of openai/clip-vit-base-patch16"
WEIGHTS = "*.safetensors"


class ClipFeatures:
    """images, uint8 with shape (B, 3, H, W) -> features (B, d), projected and not normalised; no classes.

    `name` has the digest of the weights in it.
    """

    def __init__(
        self, model: Any, pictures: Any, tokenizer: Any, digest: str, device: str | torch.device = "cpu"
    ) -> None:
        self.model = model.to(device)
        self.pictures = pictures
        self.tokenizer = tokenizer
        self.digest = digest
        self.name = named("clip", digest)
        self.dim: int = model.config.projection_dim
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        check_images(images)
        if not len(images):
            return Extracted(torch.zeros(0, self.dim))
        pixels = self.pictures(images=list(images.permute(0, 2, 3, 1).cpu().numpy()), return_tensors="pt")
        found = self.model.get_image_features(pixel_values=pixels["pixel_values"].to(self.device))
        return Extracted(found.pooler_output.float().cpu())

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """The features of texts -> (len(texts), d), float32 on the CPU; of each what fits the network's context."""
        tokens = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        found = self.model.get_text_features(
            input_ids=tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device)
        )
        return found.pooler_output.float().cpu()


def load_clip(source: str | PathLike[str], device: str | torch.device) -> ClipFeatures:
    """From a folder as transformers saves it: network, image processor and tokenizer. Raises ExtractorError."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = Path(source)
    if not folder.is_dir():
        raise ExtractorError(f"{folder}: is not a folder; it takes {FIT}")
    for names in (("config.json",), ("preprocessor_config.json",), ("tokenizer.json", "vocab.json")):
        if not any((folder / name).is_file() for name in names):
            raise ExtractorError(f"{folder}: has no {' or '.join(names)}; it takes {FIT}")
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        raise ExtractorError(f"{folder}: has no weights, {WEIGHTS}; it takes {FIT}")
    try:
        loaded: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        model, loading = loaded
        pictures = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers fails on foreign folders with whatever they lead to
        raise ExtractorError(f"{folder}: cannot be read as a CLIPModel ({error}); it takes {FIT}") from error
    if loading["missing_keys"]:  # which transformers makes up
        missing = ", ".join(sorted(loading["missing_keys"])[:5])
        raise ExtractorError(f"{folder}: its weights lack {missing}; it takes {FIT}")
    return ClipFeatures(model.requires_grad_(False).eval(), pictures, tokenizer, digest_of_files(weights), device)
