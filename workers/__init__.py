"""The worker: takes jobs from the queue, does them on one device, and writes their results.

app         the Celery application, and what a worker process starts with
worker      one job: claimed, done by its handler, written down
handler     the interface of a handler, and what it works with
handlers    a handler for each kind of job
lease       leases renewed, progress written, running jobs stopped; the worker's heartbeat
model_pool  the models that stay in memory
evaluators  the networks and reference images that studies measure with
sampling    how samples are made
outputs     files, drift and reports of what was made
study       a study, shared by all free workers
"""
