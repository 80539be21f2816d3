"""How a worker makes samples.

inputs  what is sampled: labels, or rows of uploaded conditions
plan    what a request comes down to: its variants, its samples and their chunks
chunks  the latents of a plan, chunk by chunk, stored and found again
"""
