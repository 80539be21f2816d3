"""What is stored as files.

artifacts        files under the digests of their bytes, such as pictures, tensors and checkpoints
shards           finished parts of studies, for reuse
uploads          conditions that clients upload
upload_arrays    reads the arrays of an uploaded file without trusting it
"""
