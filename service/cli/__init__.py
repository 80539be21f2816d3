"""The command `tailprune`.

commands      prune-sample, metrics, figure, extract and upload
study         study
compact       compact
models        models: list, add, fetch and remove
serve         serve
supervisor    keeps the processes of serve running
client        calls a running service
terminal      options, tables and errors that the commands share
"""

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
