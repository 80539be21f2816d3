"""The routes, one file for each resource.

submit        the POST routes that start a job: /prune-sample, /studies, /edit, /extract
compact       POST /compact, for a system or a large transformer
metrics       GET /metrics/{model}
vectors       GET /metrics/{model}/vectors and /cosine
attribution   GET /metrics/{model}/attribution
over_time     GET /metrics/{model}/over-time and /removal
figures       GET /metrics/{model}/figures/{figure}
models        /models
anatomy       GET /models/{model}/anatomy
conditions    /conditions
jobs          /jobs: list, look, cancel, follow events
events        /events: follow all jobs
artifacts     /jobs/{id}/artifacts/{name}
health        /health, and /metrics for Prometheus
pages         GET /, the start page; /ui/, the pages of service/static
"""
