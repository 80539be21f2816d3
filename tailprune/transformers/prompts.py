"""Pooled texts of prompts, by the text encoders of a pipeline's folder, as diffusers' pipelines make them.

FLUX.1 and HunyuanVideo take CLIP's pooled output, Stable Diffusion 3 and HiDream the projected ones of two CLIPs, one
after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailprune.checkpoints.files import CheckpointError
from tailprune.extras import require
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.layouts import CONFIG
from tailprune.spec.transformers import MOST_TEXTS
from tailprune.transformers.source import read_json

__all__ = ["are_prompts", "pooled_texts"]

ENCODERS = {
    "FluxTransformer2DModel": ("text_encoder",),
    "SD3Transformer2DModel": ("text_encoder", "text_encoder_2"),
    "HunyuanVideoTransformer3DModel": ("text_encoder_2",),
    "HiDreamImageTransformer2DModel": ("text_encoder", "text_encoder_2"),
}
"""The folders of the encoders whose pooled outputs a class takes, in their order."""
TOKENS, MORE_TOKENS = 77, {"HiDreamImageTransformer2DModel": 128}
"""To how many tokens a pipeline pads and cuts a prompt."""
POOLED = {"CLIPTextModel": "pooler_output", "CLIPTextModelWithProjection": "text_embeds"}
"""The output that is pooled, by the class of the encoder."""
VOCABULARIES = ("tokenizer.json", "vocab.json")
BATCH = 32
TEXT = ".txt"


def are_prompts(path: Path) -> bool:
    """Whether a path is a text file, or a folder."""
    return path.is_dir() or path.suffix == TEXT


@torch.no_grad()
def pooled_texts(path: Path, class_name: str, source: Path) -> Tensor:
    """What the text encoders beside a transformer pool prompts into, with shape (K, width), float32.

    path: a text file with a prompt a line, of which an empty one is the empty prompt, or a folder with such files
    class_name: diffusers' name of the transformer's class
    source: the folder, or the file, of the transformer, in or beside the folders of the encoders

    Raises FileNotFoundError for prompts, encoders or tokenizers that are missing; InputError for a class whose pooled
    texts no encoder makes alone, no prompts, too many, or text that is not UTF-8; CheckpointError for an encoder of
    another kind.
    """
    if class_name not in ENCODERS:
        raise InputError(
            f"{path}: {class_name} pools the tokens of a text itself: give a safetensors file with what it makes of "
            "them"
        )
    prompts = _prompts(path)
    pipeline = next(
        (folder for folder in (source, *source.parents[:2]) if (folder / ENCODERS[class_name][-1]).is_dir()), None
    )
    if pipeline is None:
        raise MissingFileError(
            f"{source} has no {ENCODERS[class_name][-1]} in it or beside it, which makes pooled texts of prompts: give "
            "a folder in diffusers' layout with text encoders and tokenizers, or a safetensors file with pooled texts"
        )
    require("decoders", "transformers")
    most = MORE_TOKENS.get(class_name, TOKENS)
    return torch.cat([_encoded(pipeline, name, prompts, most) for name in ENCODERS[class_name]], dim=1)


def _prompts(path: Path) -> list[str]:
    files = sorted(path.glob(f"*{TEXT}")) if path.is_dir() else [path]
    prompts: list[str] = []
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"{file} does not exist: give a text file with a prompt a line")
        try:
            prompts += file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: is not a text in UTF-8 ({error})") from error
    if not 1 <= len(prompts) <= MOST_TEXTS:
        raise InputError(f"{path}: has {len(prompts):,} prompts, and 1 to {MOST_TEXTS:,} are taken, one a line of .txt")
    return prompts


def _encoded(pipeline: Path, name: str, prompts: Sequence[str], most: int) -> Tensor:
    """The pooled outputs of one encoder."""
    import transformers

    folder, words = pipeline / name, pipeline / name.replace("text_encoder", "tokenizer")
    for each in (folder, words):
        if not each.is_dir():
            raise MissingFileError(f"{each} does not exist: download the pipeline whole")
    if not any((words / each).is_file() for each in VOCABULARIES):  # transformers makes an empty one
        raise MissingFileError(f"{words} has no {' or '.join(VOCABULARIES)}: download the pipeline whole")
    kinds = read_json(folder / CONFIG).get("architectures") if (folder / CONFIG).is_file() else None
    kind = kinds[0] if isinstance(kinds, list) and kinds else None
    if kind not in POOLED:
        raise CheckpointError(f"{folder}: {CONFIG} says {kind!r}, and a pooled text is of {' or '.join(POOLED)}")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(words, local_files_only=True)
        encoder, loaded = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # of other files, transformers raises errors of any type
        raise CheckpointError(f"{pipeline}: {name} and its tokenizer cannot be loaded ({error})") from error
    lacking = sorted([*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])])
    if lacking:  # transformers gives these random values
        raise CheckpointError(f"{folder}: lacks {lacking[0]} as {CONFIG} says it is: download it again")
    encoder = encoder.float().eval()
    most = min(most, encoder.config.max_position_embeddings)
    batches = (list(prompts[start : start + BATCH]) for start in range(0, len(prompts), BATCH))
    return torch.cat([_pooled(encoder, tokenizer, batch, most, POOLED[kind]) for batch in batches])


def _pooled(encoder: Any, tokenizer: Any, prompts: list[str], most: int, output: str) -> Tensor:
    tokens = tokenizer(prompts, padding="max_length", max_length=most, truncation=True, return_tensors="pt")
    pooled: Tensor = getattr(encoder(tokens.input_ids), output)
    return pooled
