"""Jobs in Redis: `jobs` for clients, `leases` for workers and the sweep, `events` to follow one, `telemetry` to count.

`scripts` loads the Lua files of `lua/`, which make every change. `heartbeats` has what a worker does every few seconds,
`connection` the clients of Redis and what to do while it is gone.
"""
