"""How a study is cut into shards, and the content addresses of what they hold.

A block is one sample number of consecutive labels or conditions: more samples a label are more blocks, and the others
stay the same. A shard is a block under one prune. Its key is a digest of all that its samples depend on, so a study
finds the shards that any earlier study made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from jobs.keys import RESULT_VERSION, digest
from jobs.registry.digests import Identity
from jobs.registry.evaluation import MEASURES, Measure
from jobs.requests.sampled import SampledRequest
from jobs.requests.study import StudyRequest
from tailprune.spec.prune import PruneSpec
from workers.sampling.plan import Sample

__all__ = ["Addresses", "SampleBlock", "blocks_of"]

READ_AS = ("family", "key", "classes", "num_heads", "decode_layer")
"""The fields of a model's reading that its latents depend on, as in `ModelEntry.read_as`."""
DECODED_BY = ("decoder", "decoder_scale", "decoder_files")
"""The fields that its images depend on besides."""
SAMPLED_BY = sorted(set(SampledRequest.model_fields) - {"model", "labels", "rows", "samples_per_label"})
"""The fields of a request that each single sample depends on."""


@dataclass(frozen=True)
class SampleBlock:
    """The `number`-th sample of each of these labels or rows."""

    number: int
    subjects: tuple[int, ...]

    @property
    def samples(self) -> list[Sample]:
        """The samples in order."""
        return [Sample(subject, self.number) for subject in self.subjects]


def blocks_of(request: StudyRequest, size: int) -> list[SampleBlock]:
    """The blocks of a resolved request, of at most `size` samples each."""
    subjects = request.subjects
    return [
        SampleBlock(number, tuple(subjects[at : at + size]))
        for number in range(request.samples_per_label or 1)
        for at in range(0, len(subjects), size)
    ]


def _measured_of_samples(request: StudyRequest) -> list[str]:
    """What the measures of a request need of each sample: some need the same features."""
    return sorted({MEASURES[name].by or name for name in request.measures or [] if name != "drift"})


class Addresses:
    """The keys of a study's shards and scores. `prune` is None for the baseline.

    precision: `float32` or `bfloat16`, in which samples are made; for `auto`, workers may choose differently
    """

    def __init__(self, request: StudyRequest, identity: Identity, precision: str) -> None:
        reading = identity.reading
        fields = request.model_dump() | {"precision": precision}
        instruments = reading.get("instruments", {})
        measured_with = {
            name: content
            for name, content in instruments.items()
            if name.startswith("extractor") or name == f"reference {request.targets}"
        }
        self._sampled = digest(
            {
                "weights": identity.weights,
                "reading": {name: reading.get(name) for name in READ_AS},
                "request": {name: fields[name] for name in SAMPLED_BY},
                "version": RESULT_VERSION,
            }
        )
        self._subjects = request.subjects
        self._reference = instruments.get(f"reference {request.reference}")
        self._measured = digest(
            {
                "decoder": {name: reading.get(name) for name in DECODED_BY},
                "instruments": measured_with,
                "seen": _measured_of_samples(request),
                "extractor": fields["extractor"],
                "targets": fields["targets"],
                "names": reading.get("class_names") if "clip-score" in (fields["measures"] or []) else None,
            }
        )

    def latents(self, block: SampleBlock, prune: PruneSpec | None) -> str:
        """The key of the latents of a block under a prune; the share that one removes is that of all subjects."""
        return digest(
            {
                "sampled": self._sampled,
                "prune": None if prune is None else asdict(prune),
                "number": block.number,
                "subjects": block.subjects,
                "share of": self._subjects if prune is not None and prune.remove_fraction is not None else None,
            }
        )

    def measured(self, block: SampleBlock, prune: PruneSpec | None) -> str:
        """The key of what was measured of these latents."""
        return digest({"latents": self.latents(block, prune), "measured": self._measured})

    def scores(self, blocks: Sequence[SampleBlock], prune: PruneSpec | None, measures: Sequence[Measure]) -> list[str]:
        """The keys of the scores of all these samples, one for each measure."""
        samples = digest([self.measured(block, prune) for block in blocks])
        return [
            digest(
                {
                    "samples": samples,
                    "measure": measure,
                    "reference": self._reference if MEASURES[measure].reference else None,
                }
            )
            for measure in measures
        ]
