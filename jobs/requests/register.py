"""The request of the job `register`: which checkpoint to add to the models, and what its tensors do not say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from jobs.problems import Fault, InvalidRequest
from jobs.registry.compaction import is_compacted_name
from jobs.registry.decoding import NEEDS_SOURCE, DecoderName
from jobs.registry.document import NAME_PATTERN, PROMPT_PATTERN, ClassName
from jobs.registry.measures import ExtractorName
from jobs.requests.base import History, Reads, Request
from jobs.requests.checks import body_fault
from jobs.results import RegisterResult
from tailprune.spec.families import FAMILIES
from tailprune.spec.hub import check_source, is_hub
from tailprune.spec.layouts import missing_from_checkpoint, missing_from_decoder

if TYPE_CHECKING:
    from jobs.registry.evaluation import EvaluationAssets
    from jobs.registry.folders import ModelFolders

__all__ = ["RegisterRequest"]

PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
MOST_CLASSES = 100_000

Source = Annotated[str, Field(min_length=1, max_length=4096, pattern=PRINTABLE), AfterValidator(check_source)]
Words = Annotated[str, Field(min_length=1, max_length=500, pattern=PRINTABLE)]
FamilyName = Literal["dit", "sit", "mdt", "lightningdit", "repa", "mg", "x-mdpt", "mdsgen"]


class RegisterRequest(Request, defer_build=False):  # the body of its call as it is
    """Add a model, without a restart."""

    kind: ClassVar[str] = "register"
    result: ClassVar[type[BaseModel]] = RegisterResult
    history: ClassVar[History] = "statistics"

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=NAME_PATTERN,
        description="The name that requests will name it by, which no other model has.",
        examples=["my-dit"],
    )
    source: Source = Field(
        description="Its checkpoint: a file or a folder, absolute or relative to one of the folders that "
        "`TAILPRUNE_MODEL_FOLDERS` names; or `hf://owner/repo/file`, which is fetched.",
        examples=["hf://owner/repo/my-dit.safetensors"],
    )
    family: FamilyName | None = Field(
        default=None, description="The family, where checkpoints of several look the same."
    )
    key: Words | None = Field(
        default=None, description="The key of the weights, where the file has several copies, such as `ema`."
    )
    classes: int | None = Field(
        default=None, ge=1, description="The classes, if the label table has no row for a null condition."
    )
    num_heads: int | None = Field(
        default=None, ge=1, description="The number of attention heads, where the width is not a published one."
    )
    decode_layer: int | None = Field(
        default=None, ge=0, description="The decode layer of X-MDPT and MDSGen, if it is not the published one."
    )
    title: Words | None = Field(default=None, description="The name for people; `name` by default.")
    class_names: Annotated[list[ClassName], Field(min_length=1, max_length=MOST_CLASSES)] | None = Field(
        default=None, description="The names of the classes, in the order of the labels."
    )
    decoder: DecoderName | None = Field(
        default=None, description="The decoder that turns samples into pictures or sound; `latents` by default."
    )
    decoder_source: Source | None = Field(default=None, description="The file or folder of the decoder, as `source`.")
    decoder_statistics: Source | None = Field(
        default=None, description="The file with mean and deviation of the latents, for `va-vae`, as `source`."
    )
    decoder_scale: float | None = Field(
        default=None, gt=0, description="The scale by which latents are divided before they are decoded."
    )
    display_scale: int | None = Field(
        default=None, ge=1, le=64, description="The factor by which images are enlarged; 1 by default."
    )
    extractor: ExtractorName | None = Field(
        default=None,
        description="The network whose features studies compare; `inception` by default for a model that makes images.",
    )
    classifier: Literal["shapes-classifier"] | None = Field(
        default=None, description="The network that predicts the class of a sample; none by default."
    )
    reference: Words | None = Field(
        default=None, description="The registered set of images with which studies compare samples; none by default."
    )
    prompt: str | None = Field(
        default=None,
        max_length=500,
        pattern=PROMPT_PATTERN,
        description="The text that CLIP compares with an image, with `{}` for the name of its class; `a photo of a {}` "
        "by default.",
    )
    licence: Words | None = Field(default=None, description="The licence of its weights.")

    @property
    def about(self) -> str:
        return self.name

    @property
    def job_title(self) -> str:
        """What the job of a resolved request is of: `register my-dit`."""
        return f"register {self.name}"

    @property
    def reads(self) -> Reads:
        return "model"

    def resolve(self, folders: ModelFolders, evaluation: EvaluationAssets) -> RegisterRequest:
        """The request with the absolute paths of its files.

        folders: where files may be.
        evaluation: the registered extractors and references.

        Raises InvalidRequest with everything that can be seen to be wrong without reading the checkpoint.
        """
        faults = [*self._own_faults(evaluation)]
        found: dict[str, Any] = {}
        for field, lacks in self._lacks().items():
            source = getattr(self, field)
            if source is None or is_hub(source):
                continue
            try:
                found[field] = str(folders.find(source, lacks))
            except ValueError as error:
                faults.append(body_fault(field, str(error)))
        if faults:
            raise InvalidRequest(faults)
        return self.model_copy(update=found)

    def _lacks(self) -> dict[str, Callable[[Path], list[str]]]:
        """What is missing of the files of each field that names some."""
        return {
            "source": missing_from_checkpoint,
            "decoder_source": lambda path: missing_from_decoder(self.decoder or "latents", path),
            "decoder_statistics": lambda path: [] if path.is_file() else ["the file: it is a folder"],
        }

    def _own_faults(self, evaluation: EvaluationAssets) -> Iterator[Fault]:
        if is_compacted_name(self.name):
            yield body_fault("name", "names that end like this are those of compacted models; choose another")
        features = FAMILIES[self.family].features if self.family else {}
        for field in ("classes", "class_names") if features else ():
            if getattr(self, field) is not None:
                yield body_fault(field, f"{self.family} takes {', '.join(features)}, not labels; leave {field} out")
        if None not in (self.classes, self.class_names) and len(self.class_names or []) != self.classes:
            yield body_fault(
                "class_names",
                f"there are {len(self.class_names or [])} names for {self.classes} classes; give one each",
            )
        yield from self._decoder_faults()
        if self.reference is not None and self.reference not in evaluation.references:
            known = ", ".join(evaluation.references) or "none"
            yield body_fault("reference", f"no reference {self.reference!r} is registered; known references: {known}")

    def _decoder_faults(self) -> Iterator[Fault]:
        decoder = self.decoder or "latents"
        needs_files = decoder in NEEDS_SOURCE
        for field in ("decoder_source", "decoder_statistics", "decoder_scale"):
            if not needs_files and getattr(self, field) is not None:
                yield body_fault(
                    field, f"decoder {decoder!r} needs no files; leave {field} out, or give another decoder"
                )
        if needs_files and self.decoder_source is None:
            yield body_fault("decoder_source", f"decoder {decoder!r} needs its file or folder")
        if decoder == "va-vae" and self.decoder_statistics is None:
            yield body_fault("decoder_statistics", "decoder 'va-vae' needs the file with mean and deviation")
        if needs_files and decoder != "va-vae" and self.decoder_statistics is not None:
            yield body_fault("decoder_statistics", f"decoder {decoder!r} takes no statistics; leave them out")
        if decoder == "audioldm" and self.family not in (None, "mdsgen"):
            yield body_fault("decoder", f"'audioldm' decodes the latents of mdsgen, not those of {self.family}")
