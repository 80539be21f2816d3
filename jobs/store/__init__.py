"""Jobs in Redis. Every change of a job's state is a Lua script, which Redis runs as one step.

jobs          what clients do: submit, read, list, cancel and delete jobs
leases        what workers do: claim, renew, report and finish jobs; the sweep that recovers lost ones
expiry        which leases have expired, whatever the clocks say
outcomes      what jobs made, as documents among the artifacts
webhooks      the calls of webhooks: which are due, and what became of each
events        follow the events of a job
heartbeats    threads that call a function every few seconds; which workers are alive
telemetry     counters and histograms of all processes
connection    clients of Redis, retries while it does not answer, and how to start a server
scripts       loads the scripts; lists the keys in Redis
lua/          the scripts
"""
