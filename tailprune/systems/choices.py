"""Which form of a layer is the fastest on this machine: timed once, then kept in a file.

The file is of one kind of CPU, number of threads and version of torch, so all processes that share its folder choose
alike, and samples stay the same byte for byte when they are made again. A kept choice is never measured again. Without
a folder that can be written to nothing is measured, and layers are torch's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import platform
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows: of two processes that measure at once, the first that writes is followed
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "MARGIN", "Choice", "Forms", "Layer", "choice_from", "choice_of", "choices_file", "default_folder", "keep_in",
    "machine_facts", "measure", "processor", "recorded", "recording",
]  # fmt: skip

MARGIN = 0.05
"""The share of a time by which another form than torch's own has to be faster."""
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 3, 50, 0.3
"""Every form is timed so often in turn; beyond the least, until this much time has passed."""
HOPELESS = 3.0
"""A form that has twice taken so many times as long as the fastest is not timed again."""
AGREEMENT = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""The greatest distance of a form's output from that of torch's own, relative to its norm; others are left out."""
ABOUT_PROCESSOR = Path("/proc/cpuinfo")
IDENTIFYING = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
INSTRUCTIONS = re.compile(r"(avx|amx|fma|sve|bf16|asimd)\w*")
"""The names of flags that decide which kernels a library has."""

log = logging.getLogger(__name__)

clock = time.perf_counter


class Layer(NamedTuple):
    """A layer as far as its time depends on it."""

    kind: str
    sizes: tuple[int, ...]
    """Without the number of samples, so that a sample is computed alike in any batch."""
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.kind} {' x '.join(map(str, self.sizes))}, {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Choice:
    """The form that a layer has on this machine."""

    form: str
    milliseconds: Mapping[str, float]
    """The least time of each form."""
    samples: int
    """The number of samples that it was timed with."""

    @property
    def time(self) -> float:
        """The time of the form that was chosen, in milliseconds a sample."""
        return self.milliseconds[self.form] / self.samples


@dataclass(frozen=True)
class Forms:
    """A layer in each of its forms, on the same random numbers."""

    samples: int
    """The number of samples that the layer is timed with, 2 or more."""
    calls: Mapping[str, Callable[[int], Tensor]]
    """By the form's name, the layer's output for so many of the samples, with shape (samples, ...): torch's own first,
    then from simple to special."""


def default_folder() -> Path | None:
    """The folder of choices unless `keep_in` names another: `tailprune/kernels` in the user's folder of caches."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailprune" / "kernels"
    except RuntimeError:  # a user without a home
        return None


def keep_in(folder: str | os.PathLike[str] | None) -> None:
    """Keep choices in the files of a folder, and use those that it has.

    folder: made when it is first needed; with None nothing is measured or kept
    """
    global _kept
    _kept = _Kept(None if folder is None else Path(folder))


def choices_file() -> Path | None:
    """The file of choices of this machine, for torch's present number of threads; None where none are kept."""
    return _kept.file(torch.get_num_threads())


def choice_of(layer: Layer, names: Collection[str], forms_of: Callable[[Layer], Forms]) -> Choice | None:
    """The choice for a layer, measured where none is kept; None for torch's own, where none can be kept.

    layer: the layer
    names: of its forms, of which a kept choice is one
    forms_of: makes calls of them, if they have to be measured
    """
    if (record := _record.get()) is not None:
        record[layer] += 1
        return None
    return _kept.choice(layer, names, forms_of)


def recording() -> bool:
    """Whether layers are counted, and not computed."""
    return _record.get() is not None


@contextlib.contextmanager
def recorded() -> Iterator[Counter[Layer]]:
    """Count the layers that `choice_of` is called for within the context, where all are torch's own."""
    counts: Counter[Layer] = Counter()
    token = _record.set(counts)
    try:
        yield counts
    finally:
        _record.reset(token)


@torch.no_grad()
def measure(forms: Forms, dtype: torch.dtype) -> dict[str, float]:
    """The least time of each form, in milliseconds, timed in turn.

    Other forms than torch's own are left out if they fail here, do not agree with it, or compute a sample in another
    way where there are fewer samples.

    forms: the forms
    dtype: the precision, for how far they may differ
    """
    (own, call), *others = forms.calls.items()
    expected = call(forms.samples).float()
    usable = {own: call}
    for name, other in others:
        if _is_usable(other, forms.samples, expected, AGREEMENT[dtype]):
            usable[name] = other
    least = dict.fromkeys(usable, math.inf)
    begun = clock()
    for done in range(1, MOST_ROUNDS + 1):
        hopeless = HOPELESS * min(least.values())
        for name, call in usable.items():
            if done <= 2 or least[name] <= hopeless:  # once may have been something else that ran
                before = clock()
                call(forms.samples)
                least[name] = min(least[name], (clock() - before) * 1e3)
        if done >= LEAST_ROUNDS and clock() - begun > SECONDS:
            break
    return least


def choice_from(milliseconds: Mapping[str, float], samples: int) -> Choice:
    """Torch's own form, unless another one beats it by `MARGIN`: the first that does and is nearly the fastest.

    milliseconds: the time of each form, as `measure` returns it
    samples: the number of samples that they were timed with
    """
    own, *_ = milliseconds
    enough = min(min(milliseconds.values()) / (1 - MARGIN), milliseconds[own] * (1 - MARGIN))
    faster = (form for form, taken in milliseconds.items() if taken <= enough)
    return Choice(next(faster, own), milliseconds, samples)


def processor() -> str:
    """What this machine calls its CPU."""
    return _about_processor().get("model name") or platform.processor() or platform.machine()


def machine_facts() -> dict[str, Any]:
    """What choices depend on besides the number of threads.

    Models of several generations may have one name, so it includes the numbers of the model and its instructions.
    """
    about = _about_processor()
    flags = about.get("flags", about.get("Features", "")).split()
    return {
        "processor": processor(),
        "model": {name: about[name] for name in IDENTIFYING if name in about},
        "instructions": sorted(flag for flag in flags if INSTRUCTIONS.fullmatch(flag)),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def _is_usable(call: Callable[[int], Tensor], samples: int, expected: Tensor, tolerance: float) -> bool:
    try:
        found = call(samples)
        alike = all(torch.equal(call(fewer), found[:fewer]) for fewer in {1, samples // 2, samples - 1})
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):  # not for this CPU, or version of torch
        return False
    return alike and bool((found.float() - expected).norm() <= tolerance * expected.norm())


def _about_processor() -> dict[str, str]:
    """What Linux says of the first core; nothing elsewhere."""
    try:
        first = ABOUT_PROCESSOR.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


class _Kept:
    """The choices in a folder.

    folder: None for none
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._choices: dict[int, dict[Layer, Choice | None]] = {}
        """By number of threads; None for what could not be kept, in this process torch's own from then on."""
        self._lock = threading.Lock()

    def file(self, threads: int) -> Path | None:
        if self._folder is None:
            return None
        machine = machine_facts()
        digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:12]
        name = re.sub(r"[^a-z0-9]+", "-", machine["processor"].lower()).strip("-")
        return self._folder / f"{name}-{digest}-threads-{threads}-torch-{torch.__version__}.json"

    def choice(self, layer: Layer, names: Collection[str], forms_of: Callable[[Layer], Forms]) -> Choice | None:
        if self._folder is None:
            return None
        known = self._choices.setdefault(torch.get_num_threads(), {})
        if layer not in known:
            with self._lock:
                if layer not in known:
                    known[layer] = self._look_up(layer, names, forms_of)
        return known[layer]

    def _look_up(self, layer: Layer, names: Collection[str], forms_of: Callable[[Layer], Forms]) -> Choice | None:
        """The choice in the file; measured and written there if it has none, by one process at a time."""
        file = self.file(torch.get_num_threads())
        assert file is not None
        try:
            if (kept := _read(file, layer, names)) is not None:
                return kept
            file.parent.mkdir(parents=True, exist_ok=True)
            with _alone(file):
                return _read(file, layer, names) or _measured(file, layer, names, forms_of)
        except OSError as error:
            log.warning("%s cannot be kept in %s (%s), so it is torch's own", layer, file, error)
            return None


_kept = _Kept(default_folder())
_record: ContextVar[Counter[Layer] | None] = ContextVar("record", default=None)


def _measured(file: Path, layer: Layer, names: Collection[str], forms_of: Callable[[Layer], Forms]) -> Choice:
    """Measure a layer and write its choice; that of another process where it was written meanwhile."""
    forms = forms_of(layer)
    choice = choice_from(measure(forms, layer.dtype), forms.samples)
    if (other := _read(file, layer, names)) is not None:  # where files have no locks
        return other
    content = _content(file) | {str(layer): asdict(choice)}
    _write(file, {"machine": machine_facts(), "threads": torch.get_num_threads(), "choices": content})
    shown = ", ".join(f"{form} {taken:.3g} ms" for form, taken in choice.milliseconds.items())
    log.info("%s: %s of %s", layer, choice.form, shown)
    return choice


def _read(file: Path, layer: Layer, names: Collection[str]) -> Choice | None:
    """The choice for a layer in the file; None where there is none that can be used."""
    entry = _content(file).get(str(layer))
    if entry is None:
        return None
    try:
        times = {str(name): float(taken) for name, taken in entry["milliseconds"].items()}
        choice = Choice(str(entry["form"]), times, int(entry["samples"]))
        usable = choice.samples > 0 and choice.form in names and choice.form in times
        if usable and all(0 < taken < math.inf for taken in times.values()):
            return choice
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    log.warning("the choice for %s in %s is damaged: it is measured anew", layer, file)
    return None


def _content(file: Path) -> dict[str, Any]:
    """The choices in the file, by the names of their layers; none where the file is missing or damaged."""
    try:
        content = json.loads(file.read_bytes())["choices"]
        if isinstance(content, dict):
            return content
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        pass
    log.warning("%s is damaged: what it kept is measured anew", file)
    return {}


def _write(file: Path, content: dict[str, Any]) -> None:
    """Write the file so that other processes see it complete or not at all."""
    temporary = file.with_name(f".{file.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_text(json.dumps(content, indent=1))
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock of a file: of the processes of this machine, one measures at a time."""
    with file.with_suffix(".lock").open("a") as lock:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, or its process ends
        yield
