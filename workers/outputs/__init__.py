"""What the jobs put out.

media    images and sounds as files, and labelled grids of images
variant  the files of one variant, and the grid of all
drift    how far samples are from the baseline's
report   what a prune removes, and the engine that computed a result
"""
