"""*shapes*, the toy data set that the shipped models are trained on: its drawings, and the network that names them.

`dataset` draws the images, `classifier` is the network; the recipes that train on them are in `tailprune.training`.
"""
