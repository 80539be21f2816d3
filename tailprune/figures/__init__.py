"""Figures of condition vectors, of samples under pruning and of training, in one style.

    components    the components of vectors: a histogram, the share below a threshold, the sorted variance
    cosine        the cosine of every pair of vectors, as a matrix
    vectors       the vectors themselves, component by component
    tsne          a map of the vectors: by all components, by the head alone, by the tail alone
    removal       samples under pruning, a row of images a threshold
    study         quality against the share of components removed
    training      cosine and nPR while a model was trained

The first four draw `labelled_vectors.LabelledVectors`; `head` chooses which components are their head; `style` is how
figures look and become files. Each `draw_…` returns a `matplotlib.figure.Figure` and touches no global state; `render`
makes PNG and SVG of it, whose bytes are a function of what was drawn. matplotlib and scikit-learn are imported when a
figure is drawn.
"""
