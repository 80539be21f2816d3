"""Webhooks: which URLs may be called when something happens to a job, and how the calls are signed.

hosts     the hosts and addresses that may be called
secret    the secret of an installation, and signatures made with it

Which calls are due is in `jobs.store.webhooks`; `workers.webhooks` makes them.
"""
