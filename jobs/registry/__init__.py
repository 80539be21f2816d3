"""The models that requests can name, and what else `models.toml` registers.

models        the registered models
transformers  the large transformers, which are no systems
compaction    how a compacted model was made, and its name
compacted     the models that `POST /compact` made
added         the models that `POST /models` added
folders       the folders that these may be in
registration  from a checkpoint to the entry of a model
catalogue     all of them together, by name
document      the registry's file, and where the files that it names are
defaults      the sampling defaults of a model's requests
decoding      the decoder that turns samples into pictures or sound
measures      the measures of samples
evaluation    the extractors and references that measures need
digests       digests of what a result depends on besides its request
"""
