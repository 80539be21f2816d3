"""What the jobs put out.

media    images and sounds as files, and labelled grids of images
variant  the files of one variant, and the grid of all
drift    how far a prune, or a narrower precision, moves samples
report   what a prune removes, and the engine that computed a result
"""
