"""Figures of condition vectors, of samples under pruning and of training: a file a figure, one style.

Each `draw_…` returns a `matplotlib.figure.Figure` and touches no global state; `render` makes PNG and SVG of it, whose
bytes are a function of what was drawn. matplotlib and scikit-learn are imported when a figure is drawn.
"""
