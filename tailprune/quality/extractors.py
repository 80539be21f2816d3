"""Networks that turn images into features, which measures compare, and class probabilities.

One extractor for each network, behind one `load_extractor`: the classifier of *shapes*, Inception-v3 and CLIP. Weights
are read from local files only; transformers is imported when CLIP is loaded. A network published as TorchScript has its
code in the file, which only torch's interpreter runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.jit import ScriptModule

from tailprune.extras import require
from tailprune.quality.images import check_images
from tailprune.quality.inception_score import joint_probabilities
from tailprune.quality.sources import digest_of_files
from tailprune.shapes.classifier import ShapesClassifier, load_classifier
from tailprune.spec import InputError

__all__ = [
    "EXTRACTORS",
    "ClipFeatures",
    "Extracted",
    "Extractor",
    "ExtractorError",
    "InceptionFeatures",
    "ShapesFeatures",
    "load_extractor",
    "named",
    "open_torchscript",
]

EXTRACTORS = ("shapes-classifier", "inception", "clip")
SOURCES = {
    "shapes-classifier": "models/shapes-classifier of the repository, or its model.safetensors",
    "inception": "the TorchScript file inception-2015-12-05.pt",
    "clip": "a folder of a CLIPModel of transformers",
}
SHAPES_FILE = "model.safetensors"
INCEPTION = "inception-2015-12-05"
INCEPTION_DIGEST = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
INCEPTION_FIT = f"the TorchScript file {INCEPTION}.pt, published with StyleGAN2-ADA"
INCEPTION_FEATURES = 2048
INCEPTION_CLASSES = 1008
PROBE_SIDE = 32
CLIP_FIT = "a folder of a CLIPModel of transformers, such as a download of openai/clip-vit-base-patch16"
CLIP_WEIGHTS = "*.safetensors"
SHOWN = 12
"""The digits of a digest in the name of a network."""


class ExtractorError(InputError):
    """A source that is not the expected network; the message names path, fault and what would fit."""


@dataclass(frozen=True)
class Extracted:
    """Features of images, float32, on the CPU."""

    features: Tensor
    """With shape (B, d)."""
    probabilities: Tensor | None = None
    """The class probabilities, with shape (B, K); None for a network without classes."""


class Extractor(Protocol):
    """A network that turns images into features."""

    @property
    def name(self) -> str:
        """The name to state with every number computed from its features: an FID is of `inception-2015-12-05`."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256 of its weights."""
        ...

    @property
    def dim(self) -> int:
        """The number of features, d."""
        ...

    def __call__(self, images: Tensor) -> Extracted:
        """The features of images, uint8 with shape (B, 3, H, W). Raises InputError for another shape or type."""
        ...


def load_extractor(
    name: str, source: str | PathLike[str] | None = None, device: str | torch.device = "cpu"
) -> Extractor:
    """The extractor of a name, ready to call.

    name: one of EXTRACTORS
    source: the local file or folder of its weights, which every extractor needs
    device: where the network runs, the CPU by default

    Raises InputError for an unknown name, and ExtractorError, an InputError, for a source that is missing or does not
    fit.
    """
    if name not in EXTRACTORS:
        raise InputError(f"there is no extractor {name!r}: give one of {', '.join(EXTRACTORS)}")
    if source is None:
        raise ExtractorError(f"extractor {name!r} needs a source: {SOURCES[name]}")
    path = Path(source)
    if not path.exists():
        raise ExtractorError(f"{path}: does not exist; extractor {name!r} takes {SOURCES[name]}")
    if name == "shapes-classifier":
        return load_shapes_classifier(path, device)
    if name == "inception":
        return load_inception(path, device)
    return load_clip(path, device)


def open_torchscript(path: Path, device: str | torch.device, fit: str) -> tuple[ScriptModule, str]:
    """The network of a file, and the digest of the file. Raises ExtractorError, with `fit`, what would fit."""
    if not path.is_file():
        raise ExtractorError(f"{path}: {'is a folder' if path.is_dir() else 'does not exist'}; give {fit}")
    try:
        model = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ExtractorError(f"{path}: is not a TorchScript file; give {fit}") from error
    return model.eval(), digest_of_files([path])


def named(name: str, digest: str) -> str:
    """A name with the digest in it, for networks of which there are several files."""
    return f"{name}:{digest[:SHOWN]}"


class ShapesFeatures:
    """The shipped classifier of the data set shapes.

    images, uint8 with shape (B, 3, H, W) -> features (B, 96) and probabilities (B, 100), shape times colour. The
    classifier was trained at 16 x 16 pixels.
    """

    name = "shapes-classifier"

    def __init__(self, classifier: ShapesClassifier, digest: str, device: str | torch.device = "cpu") -> None:
        self.classifier = classifier.to(device)
        self.device = device
        self.digest = digest
        self.dim: int = classifier.hidden.out_features

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        features = self.classifier.features(self._scaled(images))
        shape, colour = (head(features).double().softmax(1) for head in (self.classifier.shape, self.classifier.colour))
        return Extracted(features.float().cpu(), joint_probabilities(shape, colour).float().cpu())

    def classify(self, images: Tensor) -> Tensor:
        """The class of each image, `10 * shape + colour`. images, uint8 with shape (B, 3, H, W) -> (B,), on the CPU."""
        return self.classifier.classify(self._scaled(images)).cpu()

    def _scaled(self, images: Tensor) -> Tensor:
        check_images(images)
        return images.to(self.device).float() / 127.5 - 1


def load_shapes_classifier(source: Path, device: str | torch.device) -> ShapesFeatures:
    """The extractor from models/shapes-classifier, or its file. Raises ExtractorError if it does not fit."""
    path = source / SHAPES_FILE if source.is_dir() else source
    fit = "give model.safetensors of models/shapes-classifier"
    if not path.is_file():
        raise ExtractorError(f"{source}: has no {SHAPES_FILE}; {fit}")
    try:
        classifier = load_classifier(path)
    except SafetensorError as error:
        raise ExtractorError(f"{path}: is not a safetensors file ({error}); {fit}") from error
    except RuntimeError as error:  # from load_state_dict: tensors missing, unknown, or of another shape
        raise ExtractorError(f"{path}: does not have the tensors of the classifier of shapes; {fit}") from error
    return ShapesFeatures(classifier, digest_of_files([path]), device)


class InceptionFeatures:
    """Inception-v3 (2015), the network of published FID, KID, Inception score, precision and recall.

    images, uint8 with shape (B, 3, H, W) -> features (B, 2048) and probabilities (B, 1008).

        model(images, return_features=True)    uint8 (B, 3, H, W) -> the output of its last pooling, (B, 2048)
        softmax(features W^T)                  with W = model.output.weight, (1008, 2048), and no bias, as the
                                               Inception score is computed (arXiv 1606.03498, and the evaluator of ADM)

    The file is NVIDIA's TorchScript translation of the network that the first FID was computed with. It scales images
    to 299 x 299 itself, as TensorFlow does. `name` is `inception-2015-12-05` for the published file, and contains the
    digest for any other.
    """

    dim = INCEPTION_FEATURES

    def __init__(self, model: ScriptModule, digest: str, device: str | torch.device = "cpu") -> None:
        self.model = model
        self.digest = digest
        self.name = INCEPTION if digest == INCEPTION_DIGEST else named("inception", digest)
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Extracted:
        check_images(images)
        features = self.model(images.to(self.device), return_features=True).float()
        probabilities = (features @ self.model.output.weight.float().T).softmax(1)
        return Extracted(features.cpu(), probabilities.cpu())


def load_inception(source: Path, device: str | torch.device) -> InceptionFeatures:
    """The extractor from its TorchScript file. Raises ExtractorError if a black image does not give these shapes."""
    model, digest = open_torchscript(source, device, INCEPTION_FIT)
    extractor = InceptionFeatures(model, digest, device)
    try:
        found = extractor(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ExtractorError(
            f"{source}: cannot be called as model(images, return_features=True); give {INCEPTION_FIT}"
        ) from error
    assert found.probabilities is not None
    shapes = found.features.shape[1:], found.probabilities.shape[1:]
    if shapes != ((INCEPTION_FEATURES,), (INCEPTION_CLASSES,)):
        raise ExtractorError(
            f"{source}: has {tuple(shapes[0])} features and {tuple(shapes[1])} classes, not {INCEPTION_FEATURES} and "
            f"{INCEPTION_CLASSES}; give {INCEPTION_FIT}"
        )
    return extractor


class ClipFeatures:
    """CLIP (arXiv 2103.00020), from transformers: features of images and texts in one space.

    images, uint8 with shape (B, 3, H, W) -> features (B, d), projected and not normalised; no classes. `name`
    contains the digest of the weights.

    model: a CLIPModel of transformers
    pictures: its image processor
    tokenizer: its tokenizer
    digest: the SHA-256 of its weights
    device: where it runs, the CPU by default
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
        """The features of texts, cut to the length of the network's context -> (len(texts), d), float32, on the CPU."""
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
    """The extractor from a folder as transformers saves it. Raises ExtractorError if it does not fit."""
    require("quality", "transformers")
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = Path(source)
    if not folder.is_dir():
        raise ExtractorError(f"{folder}: is not a folder; give {CLIP_FIT}")
    for names in (("config.json",), ("preprocessor_config.json",), ("tokenizer.json", "vocab.json")):
        if not any((folder / name).is_file() for name in names):
            raise ExtractorError(f"{folder}: has no {' or '.join(names)}; give {CLIP_FIT}")
    weights = sorted(folder.glob(CLIP_WEIGHTS))
    if not weights:
        raise ExtractorError(f"{folder}: has no weights, {CLIP_WEIGHTS}; give {CLIP_FIT}")
    try:
        loaded: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        model, loading = loaded
        pictures = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # for other folders, transformers raises errors of any type
        raise ExtractorError(f"{folder}: cannot be read as a CLIPModel ({error}); give {CLIP_FIT}") from error
    if loading["missing_keys"]:  # transformers initialises them at random
        missing = ", ".join(sorted(loading["missing_keys"])[:5])
        raise ExtractorError(f"{folder}: its weights lack {missing}; give {CLIP_FIT}")
    return ClipFeatures(model.requires_grad_(False).eval(), pictures, tokenizer, digest_of_files(weights), device)
