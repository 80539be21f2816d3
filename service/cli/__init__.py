"""The command `tailprune`."""

import typer

from service.cli import commands, compact, models, serve, study

__all__ = ["app"]

app = typer.Typer(
    name="tailprune",
    help="Measure, prune and sample the condition vectors of diffusion transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve.serve)
app.command()(commands.prune_sample)
app.command()(study.study)
app.command()(compact.compact)
app.command()(commands.metrics)
app.command()(commands.figure)
app.command()(commands.extract)
app.command()(commands.upload)
app.add_typer(models.app, name="models")
