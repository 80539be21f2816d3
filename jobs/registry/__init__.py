"""The models that requests can name, and what else `models.toml` registers.

models        the registered models
compacted     the models that `POST /compact` made
catalogue     both together, by name
document      the registry's file, and where the files that it names are
defaults      the sampling defaults of a model's requests
decoding      the decoder that turns samples into pictures or sound
evaluation    measures, and the extractors and references that they need
digests       digests of what a result depends on besides its request
"""
