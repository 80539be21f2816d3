"""The pages that are made of the code or of the repository's Markdown."""

from __future__ import annotations

from documentation.pages import ROOT, tabbed
from documentation.settings import settings_page


def test_code_of_one_thing_in_several_languages_becomes_tabs() -> None:
    text = 'Before\n\n```sh tab="curl"\ncurl\n```\n\n```python tab="Python"\nif 1:\n\n    pass\n```\n\nAfter\n'
    assert tabbed(text) == (
        'Before\n\n=== "curl"\n\n    ```sh\n    curl\n    ```\n\n'
        '=== "Python"\n\n    ```python\n    if 1:\n\n        pass\n    ```\n\nAfter\n'
    )


def test_the_page_of_settings_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), "run `make settings`"
