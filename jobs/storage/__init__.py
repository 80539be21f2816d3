"""What is stored as files.

artifact         the description of a stored file
artifacts        files under the digests of their bytes, such as pictures, tensors and checkpoints
files            where they are: a folder, or any file system of fsspec
shards           finished parts of studies, for reuse
uploads          conditions that clients upload
condition_files  what is in their files as they are stored
condition_info   their description
upload_parsing   makes them of an uploaded file
upload_arrays    reads the arrays of an uploaded file without trusting it
naming           which files the records in Redis name
survey           many files, and what names them, as arrays
retention        deletes files that nothing names any more, and what is over a limit
"""
