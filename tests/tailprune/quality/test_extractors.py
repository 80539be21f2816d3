"""Extractors on small networks that are called as the published ones, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPModel

from tailprune.quality import ExtractorError, ShapesImages, clip_scores, load_extractor, load_lpips
from tailprune.quality.extractors import ClipFeatures, ShapesFeatures
from tests.stand_ins import Inception, Vgg, scripted, write_clip

ROOT = Path(__file__).parents[3]
CLASSIFIER = ROOT / "models" / "shapes-classifier"


def pictures(count: int, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


class Other(nn.Module):
    def forward(self, img: Tensor) -> Tensor:
        return img


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    return scripted(Inception(), tmp_path_factory.mktemp("inception") / "inception.pt")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip"))


# All


def test_an_unknown_extractor_is_named_beside_the_known() -> None:
    with pytest.raises(ValueError, match="there is no extractor 'vgg': give one of shapes-classifier, inception, clip"):
        load_extractor("vgg")


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("shapes-classifier", "models/shapes-classifier"),
        ("inception", "inception-2015-12-05.pt"),
        ("clip", "CLIPModel"),
    ],
)
def test_an_extractor_says_what_source_it_needs_and_which_is_not_there(name: str, fit: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=f"extractor '{name}' needs a source: .*{fit}"):
        load_extractor(name)
    with pytest.raises(ExtractorError, match=f"nowhere: does not exist; .*{fit}"):
        load_extractor(name, tmp_path / "nowhere")


def test_images_are_taken_in_bytes_alone(inception: Path, clip: Path) -> None:
    for name, source in (("shapes-classifier", CLASSIFIER), ("inception", inception), ("clip", clip)):
        with pytest.raises(ValueError, match=r"uint8 with shape \(B, 3, H, W\)"):
            load_extractor(name, source)(torch.zeros(1, 3, 32, 32))


def test_a_name_or_digest_tells_weights_apart(inception: Path, clip: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(inception.read_bytes()).hexdigest()
    extractor = load_extractor("inception", inception)
    # inception-2015-12-05 is the published file alone, so that no other network's number passes for an FID
    assert (extractor.digest, extractor.name) == (digest, f"inception:{digest[:12]}")
    weights = hashlib.sha256((clip / "model.safetensors").read_bytes()).hexdigest()
    assert load_extractor("clip", clip).name == f"clip:{weights[:12]}"
    shipped = load_extractor("shapes-classifier", CLASSIFIER)
    assert shipped.name == "shapes-classifier"
    assert shipped.digest == hashlib.sha256((CLASSIFIER / "model.safetensors").read_bytes()).hexdigest()


def test_the_published_inception_is_known_by_its_digest(inception: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(inception.read_bytes()).hexdigest()
    monkeypatch.setattr("tailprune.quality.extractors.INCEPTION_DIGEST", digest)
    assert load_extractor("inception", inception).name == "inception-2015-12-05"


# The classifier of shapes


def test_the_classifier_of_shapes_gives_features_and_the_product_of_its_two_heads() -> None:
    extract = load_extractor("shapes-classifier", CLASSIFIER)
    assert isinstance(extract, ShapesFeatures)
    drawn = ShapesImages(count=100, seed=3)
    (images,) = drawn.batches(100)
    found = extract(images)
    assert found.probabilities is not None
    assert (extract.dim, found.features.shape, found.probabilities.shape) == (96, (100, 96), (100, 100))
    shape, colour = extract.classifier(images.float() / 127.5 - 1)
    expected = shape.softmax(1)[7, 4] * colour.softmax(1)[7, 2]
    torch.testing.assert_close(found.probabilities[7, 42], expected, atol=1e-7, rtol=1e-4)  # softmax in float32 here
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(100))
    assert torch.equal(found.probabilities.argmax(1), extract.classify(images))
    assert (extract.classify(images) == drawn.labels).double().mean() > 0.95  # 0.99 at its training


def test_the_classifier_of_shapes_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(
        ExtractorError, match=r"model.safetensors: is not a safetensors file .*; give model.safetensors"
    ):
        load_extractor("shapes-classifier", tmp_path)
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ExtractorError, match=r"model.safetensors: does not have the tensors of the classifier"):
        load_extractor("shapes-classifier", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ExtractorError, match=r"has no model\.safetensors"):
        load_extractor("shapes-classifier", tmp_path)


# Inception


def test_inception_gives_its_features_and_the_softmax_without_the_bias(inception: Path) -> None:
    images, model = pictures(5), torch.jit.load(str(inception))
    found = load_extractor("inception", inception)(images)
    torch.testing.assert_close(found.features, model(images, return_features=True), atol=0, rtol=0)
    torch.testing.assert_close(found.probabilities, model(images, no_output_bias=True))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found.probabilities, model(images))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            lambda: Inception(features=64),
            r"has \(64,\) features and \(1008,\) classes, not 2048 and 1008",
        ),
        (lambda: Inception(classes=1000), r"has \(2048,\) features and \(1000,\) classes"),
        (Other, r"cannot be called as model\(images, return_features=True\)"),
    ],
)
def test_inception_refuses_other_networks(module: Callable[[], nn.Module], said: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=f"other.pt: {said}.* give the TorchScript file inception-2015-12-05.pt"):
        load_extractor("inception", scripted(module(), tmp_path / "other.pt"))


def test_inception_refuses_files_that_are_not_torchscript(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("text")
    for name in ("weights.pt", "text.pt"):
        with pytest.raises(ExtractorError, match=f"{name}: is not a TorchScript file; give"):
            load_extractor("inception", tmp_path / name)
    with pytest.raises(ExtractorError, match="is a folder; give"):
        load_extractor("inception", tmp_path)


# CLIP


def test_clip_gives_what_its_model_gives_of_images_as_they_are_scaled_for_it(clip: Path) -> None:
    images = pictures(3)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    model = CLIPModel.from_pretrained(clip)
    expected = model.get_image_features(pixel_values=(images / 255 - mean) / std).pooler_output
    extract = load_extractor("clip", clip)
    found = extract(images)
    torch.testing.assert_close(found.features, expected.detach())
    assert (found.probabilities, extract.dim) == (None, 8)
    assert extract(images[:0]).features.shape == (0, 8)
    assert extract(pictures(2, side=48)).features.shape == (2, 8)  # scaled to the 32 pixels it takes


def test_clip_reads_a_text_the_same_beside_others_and_cuts_long_ones(clip: Path) -> None:
    extract = load_extractor("clip", clip)
    assert isinstance(extract, ClipFeatures)
    together = extract.texts(["a red star", "ring", "a very long text that does not fit into its context"])
    torch.testing.assert_close(together[1:2], extract.texts(["ring"]))
    assert together.shape == (3, 8)
    scores = clip_scores(extract(pictures(3)).features, together)
    assert len(set(scores.tolist())) == 3
    assert scores.abs().max() <= 100


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "has no config.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("tokenizer.json", "has no tokenizer.json or vocab.json"),
        ("model.safetensors", r"has no weights, \*.safetensors"),
    ],
)
def test_clip_refuses_a_folder_that_is_not_whole(clip: Path, tmp_path: Path, missing: str, said: str) -> None:
    folder = shutil.copytree(clip, tmp_path / "clip")
    (folder / missing).unlink()
    with pytest.raises(ExtractorError, match=f"{folder}: {said}; give a folder of a CLIPModel"):
        load_extractor("clip", folder)


def test_clip_makes_up_no_tensors(clip: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(clip, tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExtractorError, match=r"its weights lack visual_projection\.weight"):
        load_extractor("clip", folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ExtractorError, match="cannot be read as a CLIPModel"):
        load_extractor("clip", folder)


# LPIPS


def test_lpips_is_the_squared_distance_of_features_pair_by_pair(tmp_path: Path) -> None:
    lpips = load_lpips(scripted(Vgg(), tmp_path / "vgg16.pt"))
    a, b = pictures(6), pictures(6).flip(0)
    expected = (a.float().mean((2, 3)) - b.float().mean((2, 3))).square().sum(1)
    torch.testing.assert_close(lpips(a, b), expected.double())
    assert lpips(a, a).tolist() == [0.0] * 6
    assert lpips.name == f"lpips-vgg16:{lpips.digest[:12]}"
    with pytest.raises(ValueError, match="in pairs of the same size"):
        lpips(a, b[:2])


def test_lpips_says_what_file_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ExtractorError, match=r"LPIPS needs a source: the TorchScript file vgg16.pt"):
        load_lpips()
    with pytest.raises(ExtractorError, match=r"nowhere.pt: does not exist; give the TorchScript file vgg16.pt"):
        load_lpips(tmp_path / "nowhere.pt")
    with pytest.raises(ExtractorError, match=r"other.pt: cannot be called as model\(images, resize_images=False"):
        load_lpips(scripted(Other(), tmp_path / "other.pt"))
