"""Figures of condition vectors, of samples under pruning and of training, in one style.

    labelled_vectors    `LabelledVectors`: the vectors of a figure and their names
    head                which components are the head of the vectors
    vectors             the vectors themselves, component by component
    components          their components: a histogram, the share below a threshold, the sorted variance
    cosine              the cosine of every pair of vectors, as a matrix
    tsne                t-SNE of the vectors: of all components, of the head, of the tail
    removal             samples under pruning, one row of images per prune
    study               quality against the share of components removed
    rank                the error of a large transformer's modulations against the rank of its AdaLN
    training            cosine and nPR over the training of a model
    style               the style of all figures, and `render`

Each `draw_…` returns a `matplotlib.figure.Figure` and changes no global state; `render` writes it as PNG and SVG, whose
bytes depend only on the figure. matplotlib and scikit-learn are imported when a figure is drawn.
"""
