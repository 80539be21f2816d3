"""The contract between `service` and `workers`: what a job is, where it is stored, and how it is queued.

Redis and files; neither torch nor HTTP. Requests, results, problems, records and views are also what a client of the
service reads: they need pydantic alone.

    requests/         the request of each kind of job: its fields, defaults and checks
    results           the results of all kinds but studies
    study_results     the result of a study
    problems          problem documents (RFC 9457) and the catalogue of their types
    records           the record of a job, as stored and as clients see it; the kinds of jobs
    views             what clients see besides jobs: models, conditions, health
    keys              the key of a job: equal requests to equal weights have equal keys
    batching          which jobs can share a batch
    queue             the queues of the broker
    store/            jobs, their leases and their events, in Redis
    storage/          artifacts, shards and uploaded conditions, as files
    registry/         the models, their decoders, and what samples are evaluated with
    settings          every setting, read from the environment
    urls              URLs in settings: checked, and shown without passwords
    startup           what a process checks before it begins
    logging           structured logs
"""
