"""What can be asked for: a file a kind of job, with its request, its defaults and what a model allows.

A request is checked twice. Its own shape is checked where it is read, by its class; `resolve…` then fills in the
model's defaults and checks everything against the model and the limits. The resolved request says the whole job, so it
is what the job's key is made of.
"""
