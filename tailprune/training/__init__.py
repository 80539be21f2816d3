"""How the shipped models of *shapes* are made, one command a step.

    shapes_classifier    trains the judge of samples, `shapes-classifier`
    shapes_models        trains a model of shapes, each with the objective of its family
    card                 evaluates a trained model and writes its model card

`recipe` is the training loop that they share, `objectives` the loss of each family, `initialise` how weights start.
Each command runs as `python -m tailprune.training.NAME`; `make train-shapes` runs all of them.
"""
