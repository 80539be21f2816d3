"""Models: the registry in `models`, the compacted ones of it in `compacted`, all together in `catalogue`.

`document` reads the file of the registry, `defaults` is what a request gets that leaves something out.
`evaluation` has what samples are measured with, `decoding` what makes pictures or sound of them, and `digests` what a
result depends on besides its request.
"""
