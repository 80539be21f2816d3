"""*shapes*, the toy data set of the shipped models.

    dataset       draws the images
    classifier    the network that classifies shape and colour

The recipes that train on them are in `tailprune.training`.
"""
