"""The job `figure-transformer`: a figure of a large transformer's AdaLN, as PNG and SVG, from its anatomy."""

from __future__ import annotations

from jobs.anatomy_results import TransformerUsed
from jobs.figure_results import FigureTransformerResult
from jobs.requests.figure_transformer import FigureTransformerRequest
from tailprune.figures.rank import draw_rank
from tailprune.figures.style import caption_of, render
from tailprune.transformers import anatomy
from workers.handler import Context, read_transformer, transformer_of
from workers.handlers.anatomy import ranks_of
from workers.handlers.figure import UNIT, put_figure
from workers.lease import Product, Run
from workers.outputs.variant import JobArtifacts

__all__ = ["handler"]


class FigureTransformerHandler:
    """Draws figures of large transformers. Nothing of them stays in memory."""

    request = FigureTransformerRequest

    def handle(
        self, run: Run, request: FigureTransformerRequest, source: None, context: Context
    ) -> Product[FigureTransformerResult]:
        """Draw the figure of a request.

        Raises InputError as the handler of `anatomy`, and for a model whose ranks cannot be measured.
        """
        entry, digest = transformer_of(run.job, request, context)
        run.phase = "measuring"
        run.step(0, 1, UNIT)
        found = read_transformer(entry, digest, anatomy)
        run.check()
        run.phase = "drawing"
        figure = draw_rank(found, entry.name)
        rendered = render(figure)
        run.step(1, 1, UNIT)
        result = FigureTransformerResult(
            model=TransformerUsed(name=entry.name, files_digest=digest),
            figure=request.figure,
            caption=caption_of(figure),
            png=f"{request.figure}.png",
            svg=f"{request.figure}.svg",
            data=f"{request.figure}.json",
        )
        files = JobArtifacts(context.artifacts)
        put_figure(files, result, rendered, ranks_of(found))
        return Product(result, files.artifacts)


handler = FigureTransformerHandler()
