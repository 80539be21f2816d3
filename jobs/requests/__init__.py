"""The requests: one file for each kind of job, with its fields, its defaults and its checks.

A request is checked twice. Its class checks types and ranges when the request is read; `resolve` then fills in the
model's defaults and checks everything against the model and the limits. The resolved request describes the whole job,
so the job's key is computed from it.

    base            the class of all requests, and the queues
    fields          the types of fields that several requests have
    checks          what a model or the limits do not allow, each check once
    subscriber      the fields of a webhook, which any request that is posted has besides
    sampled         the fields of requests that sample a model
    measured        the fields of requests whose samples are scored
    prune_sample    samples of a model under one or several prunes
    study           a grid of prunes or a search for a threshold, scored by measures of quality
    metrics         statistics of condition vectors
    over_time       the same at many times of a sampling run
    cosine          the cosine of every pair of condition vectors
    removal         what prunes remove over a sampling run
    figure          figures of condition vectors, of samples under pruning, and of training
    extract         condition vectors as tensors
    compact         a smaller model
    anatomy         what a large transformer's AdaLN takes
    figure_transformer   figures of it
    metrics_transformer  statistics of its c, over the times of a schedule and at many times
    transformer_schedule what requests of large transformers say of times
    transformer_inputs   what they say of the other inputs of c
    compact_transformer  a large transformer with a smaller AdaLN
    register        a model that is added without a restart
"""
