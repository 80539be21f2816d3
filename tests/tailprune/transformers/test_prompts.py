"""Populations of prompts, against the pooled texts of diffusers' pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tailprune.__main__ import main
from tailprune.checkpoints import CheckpointError
from tailprune.spec import InputError
from tailprune.transformers import compact
from tests.tailprune.transformers.tiny_models import TINY

PROMPTS = ["a red circle", "", "a very long prompt of more letters than an encoder has places for in this test" * 2]
ENCODERS: dict[str, dict[str, tuple[type[Any], int]]] = {
    "flux": {"text_encoder": (CLIPTextModel, 24)},
    "sd3": {"text_encoder": (CLIPTextModelWithProjection, 8), "text_encoder_2": (CLIPTextModelWithProjection, 16)},
    "hunyuan-video": {"text_encoder_2": (CLIPTextModel, 8)},
    "hidream": {"text_encoder": (CLIPTextModelWithProjection, 8), "text_encoder_2": (CLIPTextModelWithProjection, 16)},
}
"""The class and the width of each encoder's output, of the tiny models."""


def pipeline_in(folder: Path, name: str) -> dict[str, Any]:
    """Saves a pipeline's transformer, encoders and tokenizers; returns what a pipeline takes of the latter."""
    TINY[name].save(folder / "transformer")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    parts: dict[str, Any] = {}
    for seed, (part, (cls, width)) in enumerate(ENCODERS[name].items()):
        torch.manual_seed(seed)
        config = CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            projection_dim=width,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=248 if name == "hidream" else 77,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
            pad_token_id=len(words) - 1,
        )
        encoder = cls(config).eval()
        encoder.save_pretrained(folder / part)
        tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
        tokenizer.model_max_length = 248 if name == "hidream" else 77
        tokenizer.save_pretrained(folder / part.replace("text_encoder", "tokenizer"))
        parts |= {part: encoder, part.replace("text_encoder", "tokenizer"): tokenizer}
    return parts


@torch.no_grad()
def pooled_by_diffusers(name: str, parts: dict[str, Any]) -> Tensor:
    """What diffusers' own pipeline pools the prompts into."""
    cls = {
        "flux": diffusers.FluxPipeline,
        "sd3": diffusers.StableDiffusion3Pipeline,
        "hunyuan-video": diffusers.HunyuanVideoPipeline,
        "hidream": diffusers.HiDreamImagePipeline,
    }[name]
    names = [key for key in cls.__init__.__annotations__ if key != "return"]
    pipeline = cls(**{key: parts.get(key) for key in names})
    if name == "sd3":
        pooled = [pipeline._get_clip_prompt_embeds(PROMPTS, clip_model_index=place)[1] for place in range(2)]
    elif name == "hidream":
        pooled = [
            pipeline._get_clip_prompt_embeds(parts[f"tokenizer{end}"], parts[f"text_encoder{end}"], PROMPTS)
            for end in ("", "_2")
        ]
    else:
        pooled = [pipeline._get_clip_prompt_embeds(PROMPTS)]
    return torch.cat(pooled, dim=-1)


def write_prompts(folder: Path) -> Path:
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return folder / "prompts.txt"


@pytest.mark.parametrize("name", ENCODERS)
def test_prompts_are_pooled_as_by_the_pipeline(name: str, tmp_path: Path) -> None:
    parts = pipeline_in(tmp_path / "whole", name)
    compact(tmp_path / "whole", tmp_path / "small", rank=4, population=write_prompts(tmp_path))
    found = load_file(tmp_path / "small" / "population.safetensors")["pooled"]
    torch.testing.assert_close(found, pooled_by_diffusers(name, parts), rtol=1e-5, atol=1e-6)


def test_prompts_in_files_of_a_folder_are_taken_for_a_transformer_beside_the_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline_in(tmp_path / "flux", "flux")
    (tmp_path / "prompts").mkdir()
    for place, prompt in enumerate(PROMPTS):
        (tmp_path / "prompts" / f"{place}.txt").write_text(f"{prompt}\n")
    folders = [str(tmp_path / "flux" / "transformer"), str(tmp_path / "small")]
    more = ["--steps", "3", "--pooled", "mean", "--population", str(tmp_path / "prompts"), "--json"]
    monkeypatch.setattr("sys.argv", ["tailprune", "compact", *folders, *more])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["covers"].endswith("every pooled text as the mean of 3 pooled texts")


def test_what_makes_no_pooled_texts_is_refused(tmp_path: Path) -> None:
    whole, prompts, out = tmp_path / "whole", write_prompts(tmp_path), tmp_path / "small"
    pipeline_in(whole, "flux")

    def refused(error: type[Exception], said: str, source: Path = whole, population: Path = prompts) -> None:
        with pytest.raises(error, match=said):
            compact(source, out, rank=4, population=population)

    refused(FileNotFoundError, r"missing\.txt does not exist", population=tmp_path / "missing.txt")
    (tmp_path / "empty.txt").touch()
    refused(InputError, "has 0 prompts, and 1 to 4,096 are taken", population=tmp_path / "empty.txt")
    refused(InputError, "has 0 prompts", population=whole / "tokenizer")
    (tmp_path / "latin.txt").write_bytes("Gemälde".encode("latin-1"))
    refused(InputError, "is not a text in UTF-8", population=tmp_path / "latin.txt")
    TINY["mochi"].save(tmp_path / "mochi")
    refused(InputError, "pools the tokens of a text itself", tmp_path / "mochi")
    TINY["qwen"].save(tmp_path / "qwen")
    refused(InputError, "takes no pooled text", tmp_path / "qwen")
    TINY["flux"].save(tmp_path / "alone")
    refused(FileNotFoundError, "has no text_encoder in it or beside it", tmp_path / "alone")
    weights = whole / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    lacking = next(name for name in tensors if name.endswith("fc1.bias"))
    save_file({key: values for key, values in tensors.items() if key != lacking}, weights, {"format": "pt"})
    refused(CheckpointError, r"text_encoder: lacks .*fc1\.bias")
    (whole / "text_encoder" / "config.json").write_text('{"architectures": ["T5EncoderModel"]}')
    refused(CheckpointError, "says 'T5EncoderModel', and a pooled text is of CLIPTextModel or")
    shutil.rmtree(whole / "tokenizer")
    refused(FileNotFoundError, "tokenizer does not exist: download the pipeline whole")
    assert not out.exists()
