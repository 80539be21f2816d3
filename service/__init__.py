"""The HTTP service: it turns requests into jobs, and jobs into responses. It uses `jobs`, and never torch.

app               the application
server            serves it: `python -m service.server`
deps              what routes depend on: the application's state, and the job or model in a path
submission        from a request to its job, and waiting for the job
problems          every error as a problem document
headers           request headers: preferences, media types, entity tags and ranges
auth              the scope that each call needs
keys              keys and their scopes, and the file of them
addresses         who asks, by address
sites             names of the service, and requests that pages of other sites send
limits            how often a key or an address may ask
middleware        a proxy's prefix, HEAD, compression, the limits of request bodies, and the telemetry of requests
checks            what is refused of any request: unknown parameters, and bodies that are not JSON
response_cache    answers kept in memory
telemetry         counters and histograms for Prometheus
contract          the OpenAPI document, served as JSON and YAML
openapi           the responses that routes share, as the document has them
examples          the examples of bodies that it shows
routes/           one file for each resource
cli/              the command `tailprune`
__main__          starts it
"""
