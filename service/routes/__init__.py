"""The routes, one file for each resource.

submit        the POST routes that start a job: /prune-sample, /studies, /compact, /extract
metrics       GET /metrics/{model}
figures       GET /metrics/{model}/figures/{figure}
models        /models
conditions    /conditions
jobs          /jobs: list, look, cancel, follow events
artifacts     /jobs/{id}/artifacts/{name}
health        /health, and /metrics for Prometheus
pages         GET /, the start page
"""
