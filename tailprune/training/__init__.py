"""Training the shipped models of *shapes*.

    recipe               the training loop, its schedule and averaging
    objectives           the loss of each family
    initialise           the initial weights
    shapes_classifier    command: trains `shapes-classifier`, which judges samples
    shapes_models        command: trains a model of shapes with the objective of its family
    card                 command: evaluates a trained model and writes its model card

The commands run as `python -m tailprune.training.NAME`; `make train-shapes` runs all of them.
"""
