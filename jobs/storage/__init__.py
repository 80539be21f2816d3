"""Files: `artifacts` under the digests of their bytes, `shards` of studies, and `uploads` of conditions.

`upload_arrays` reads the arrays of what a client sent, and trusts none of it.
"""
