"""What a job is: its request and result, record, key, events and artifacts, and how it is queued.

The contract between `service` and `workers`. Redis and files; no torch, nothing of HTTP.
"""
