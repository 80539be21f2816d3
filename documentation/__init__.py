"""The documentation as a site: `python -m documentation` makes it of the repository's Markdown, code and notebooks."""
