"""Choices of kernels that do not depend on how fast this machine is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tailprune.systems import choices, kernels
from tailprune.systems.choices import Forms, Layer


@pytest.fixture(autouse=True)
def torchs_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All layers are torch's own and nothing is kept; in a folder that a test names, all forms are equally fast."""

    def measured(forms: Forms, dtype: torch.dtype) -> dict[str, float]:
        return dict.fromkeys(forms.calls, 1.0)

    monkeypatch.setattr(choices, "measure", measured)
    choices.keep_in(None)
    yield
    choices.keep_in(None)


def has_form(form: str, dtype: torch.dtype) -> bool:
    """Whether this CPU and this version of torch have a form of linear layers."""
    with torch.no_grad():
        try:
            kernels.forms_of(Layer("linear", (3, 24, 40), dtype)).calls[form](1)
        except (RuntimeError, NotImplementedError, AttributeError):
            return False
    return True
