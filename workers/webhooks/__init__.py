"""Calls webhooks: a worker of its own, without torch, which serves their queue alone.

app         the Celery application
caller      finds the calls that are due, makes them, and tries again
outgoing    one HTTP request to an address that was checked
"""
