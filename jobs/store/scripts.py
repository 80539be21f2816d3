"""Every change of a job's state, as Lua that Redis runs whole: two processes can never both win.

Keys, all below `tailprune:`:

    job:<id>            hash     the record
    job:<id>:events     stream   its events, capped
    key:<key>           string   the job that answers requests of this key
    jobs                zset     ids, all with score 0, so in order of making
    queued              zset     ids by the time they were last put on the broker's queue
    group:<digest>      zset     of those, the ids that can share a batch (`jobs.batching`), in order of making
    leases              zset     ids of running jobs by the time their lease lapses
    finished            zset     ids by the time they finished
    telemetry           hash     counters (`jobs.store.telemetry`)
    idempotency:<key>   hash     the job of an Idempotency-Key; expires

None but the last expires. A job's `attempts` is its fencing token: every claim raises it, and a worker's
writes name the one it was given. All times are the Redis server's, so there is one clock.
"""

from __future__ import annotations

__all__ = [
    "CANCEL", "CLAIM", "COMPANIONS", "FINISH", "PREFIX", "PUBLISH", "RELEASE", "RENEW", "REPORT", "REQUEUE", "SUBMIT",
    "SWEEP", "TRIM",
]  # fmt: skip

PREFIX = "tailprune:"
EVENTS_KEPT = 500

_COMMON = f"""
local P = '{PREFIX}'

local function job(id) return P .. 'job:' .. id end

local function now()
    local t = redis.call('TIME')
    return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function stamp(seconds) return string.format('%.6f', seconds) end

local function event(id, name, data)
    redis.call('XADD', job(id) .. ':events', 'MAXLEN', '~', {EVENTS_KEPT}, '*', 'event', name, 'data', data)
end

local function to_status(id, status)
    redis.call('HSET', job(id), 'status', status)
    event(id, 'status', cjson.encode({{status = status}}))
end

local function release_key(id)
    local pointer = P .. 'key:' .. redis.call('HGET', job(id), 'key')
    if redis.call('GET', pointer) == id then redis.call('DEL', pointer) end
end

-- How many workers were lost over a job: those that took it and did not hand it back.
local function losses(id)
    local f = redis.call('HMGET', job(id), 'attempts', 'handovers')
    return tonumber(f[1]) - tonumber(f[2] or 0)
end

-- One that lost a worker may have been what killed it: it shares no batch any more.
local function queue(id)
    redis.call('ZADD', P .. 'queued', stamp(now()), id)
    local group = redis.call('HGET', job(id), 'group')
    if group and losses(id) == 0 then redis.call('ZADD', P .. 'group:' .. group, 0, id) end
    to_status(id, 'queued')
end

local function unqueue(id)
    redis.call('ZREM', P .. 'queued', id)
    local group = redis.call('HGET', job(id), 'group')
    if group then redis.call('ZREM', P .. 'group:' .. group, id) end
end

local function finish(id, status)
    local finished = stamp(now())
    redis.call('HSET', job(id), 'finished', finished)
    redis.call('ZREM', P .. 'leases', id)
    unqueue(id)
    redis.call('ZADD', P .. 'finished', finished, id)
    if status == 'succeeded' then
        redis.call('SET', P .. 'key:' .. redis.call('HGET', job(id), 'key'), id, 'NX')
    else
        release_key(id)
    end
    local counter = '["tailprune_jobs","' .. redis.call('HGET', job(id), 'kind') .. '","' .. status .. '"]'
    redis.call('HINCRBY', P .. 'telemetry', counter, 1)
    to_status(id, status)
end

-- Whether the worker of a running job has not been heard of for too long.
local function lapsed(id)
    local expiry = redis.call('ZSCORE', P .. 'leases', id)
    return not expiry or tonumber(expiry) < now()
end

local function holds(id, token)
    local f = redis.call('HMGET', job(id), 'status', 'attempts')
    return f[1] == 'running' and f[2] == token
end
"""

# id, kind, queue, key, model, request, idempotency key, fingerprint, its life in seconds, group and rows (of a job that
# can share a batch), stale id
#   -> the id of the job, and 'created', 'joined' or 'conflict'
SUBMIT = (
    _COMMON
    + """
local id, kind, queue_name, key, model, request, idempotency, fingerprint, life, group, rows, stale = unpack(ARGV)
local note = P .. 'idempotency:' .. idempotency
local pointer = P .. 'key:' .. key

local function remember(answer)
    if idempotency ~= '' then
        redis.call('HSET', note, 'fingerprint', fingerprint, 'id', answer)
        redis.call('EXPIRE', note, life)
    end
end

if idempotency ~= '' then
    local known = redis.call('HMGET', note, 'fingerprint', 'id')
    if known[1] and known[1] ~= fingerprint then return {known[2], 'conflict'} end
    if known[2] and known[2] ~= stale and redis.call('EXISTS', job(known[2])) == 1 then
        return {known[2], 'joined'}
    end
end

local answering = redis.call('GET', pointer)
if answering and answering ~= stale then
    remember(answering)
    return {answering, 'joined'}
end

redis.call('HSET', job(id), 'id', id, 'kind', kind, 'queue', queue_name, 'key', key, 'model', model,
    'request', request, 'created', stamp(now()), 'attempts', 0)
if group ~= '' then redis.call('HSET', job(id), 'group', group, 'rows', rows) end
redis.call('SET', pointer, id)
redis.call('ZADD', P .. 'jobs', 0, id)
queue(id)
remember(id)
return {id, 'created'}
"""
)

# id, worker, seconds of lease, most attempts
#   -> the record, whose `attempts` is the token; nothing where the job is not to be had
CLAIM = (
    _COMMON
    + """
local id, worker, lease, most = unpack(ARGV)
local f = redis.call('HMGET', job(id), 'status', 'cancel')
local lost = f[1] == 'running' and not f[2] and losses(id) < tonumber(most) and lapsed(id)
if f[1] ~= 'queued' and not lost then return {} end
local started = now()
redis.call('HSET', job(id), 'worker', worker, 'started', stamp(started))
redis.call('HDEL', job(id), 'progress')
unqueue(id)
redis.call('ZADD', P .. 'leases', stamp(started + lease), id)
to_status(id, 'running')
redis.call('HINCRBY', job(id), 'attempts', 1)
return redis.call('HGETALL', job(id))
"""
)

# id, rows that a batch holds, workers there are -> the oldest queued jobs that can share a batch with this running one,
# as many as fit, and no more than its worker's share of what waits
COMPANIONS = (
    _COMMON
    + """
local id, rows, workers = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local f = redis.call('HMGET', job(id), 'group', 'rows')
if not f[1] or losses(id) > 1 then return {} end
local group, room = P .. 'group:' .. f[1], rows - tonumber(f[2])
local most = math.ceil((redis.call('ZCARD', group) + 1) / workers) - 1
local companions = {}
for _, other in ipairs(redis.call('ZRANGE', group, 0, rows - 1)) do
    if #companions >= most then break end
    local taken = tonumber(redis.call('HGET', job(other), 'rows'))
    if taken <= room then
        companions[#companions + 1] = other
        room = room - taken
    end
end
return companions
"""
)

# id, token, seconds of lease -> 1, or 0 where the lease is lost.
# It works where memory is full, or every running job would lapse: Redis refuses a script's first write if that
# may take memory, and removing takes none.
RENEW = (
    _COMMON
    + """
local id, token, lease = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('ZREM', P .. 'leases', id)
redis.call('ZADD', P .. 'leases', stamp(now() + lease), id)
return 1
"""
)

# id, token -> 1 and the job is queued again (or cancelled, if that was asked for), or 0 where the lease is lost
RELEASE = (
    _COMMON
    + """
local id, token = unpack(ARGV)
if not holds(id, token) then return 0 end
if redis.call('HEXISTS', job(id), 'cancel') == 1 then
    finish(id, 'cancelled')
    return 1
end
redis.call('HINCRBY', job(id), 'handovers', 1)
redis.call('HDEL', job(id), 'progress')
redis.call('ZREM', P .. 'leases', id)
queue(id)
return 1
"""
)

# id, token, progress -> 1, or 0 where the lease is lost
REPORT = (
    _COMMON
    + """
local id, token, progress = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('HSET', job(id), 'progress', progress)
event(id, 'progress', progress)
return 1
"""
)

# id, token, result -> 1, or 0 where the lease is lost
PUBLISH = (
    _COMMON
    + """
local id, token, result = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('HSET', job(id), 'result', result)
return 1
"""
)

# id, token, status, then names and values of the record's fields -> 1, or 0 where the lease is lost.
# Saying it again after it was written answers 1: a worker that lost the answer asks twice.
FINISH = (
    _COMMON
    + """
local id, token, status = ARGV[1], ARGV[2], ARGV[3]
local f = redis.call('HMGET', job(id), 'status', 'attempts')
if f[1] == status and f[2] == token then return 1 end
if not holds(id, token) then return 0 end
for i = 4, #ARGV, 2 do redis.call('HSET', job(id), ARGV[i], ARGV[i + 1]) end
finish(id, status)
return 1
"""
)

# id -> 'unknown', 'finished', 'cancelled' (it was queued, or lost its worker) or 'requested' (its worker will stop)
CANCEL = (
    _COMMON
    + """
local id = ARGV[1]
local status = redis.call('HGET', job(id), 'status')
if not status then return 'unknown' end
if status == 'queued' or (status == 'running' and lapsed(id)) then
    finish(id, 'cancelled')
    return 'cancelled'
end
if status ~= 'running' then return 'finished' end
redis.call('HSET', job(id), 'cancel', 1)
release_key(id)
return 'requested'
"""
)

# most attempts, the problem of a job that used them up
#   -> id and queue of those queued again, and of those failed
SWEEP = (
    _COMMON
    + """
local most, problem = tonumber(ARGV[1]), ARGV[2]
local queued, failed = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', stamp(now()), 'LIMIT', 0, 100)) do
    redis.call('ZREM', P .. 'leases', id)
    local f = redis.call('HMGET', job(id), 'status', 'cancel', 'queue')
    if f[1] == 'running' then
        if f[2] then
            finish(id, 'cancelled')
        elseif losses(id) < most then
            queue(id)
            queued[#queued + 1] = {id, f[3]}
        else
            redis.call('HSET', job(id), 'problem', problem)
            finish(id, 'failed')
            failed[#failed + 1] = {id, f[3]}
        end
    end
end
return {queued, failed}
"""
)

# seconds, more seconds, then queues -> id and queue of jobs of these queues that wait for longer than the first, and
# of those of any queue that wait for longer than the second; their time starts anew
REQUEUE = (
    _COMMON
    + """
local moment = now()
local before, long_before = moment - ARGV[1], moment - ARGV[2]
local queues, late = {}, {}
for i = 3, #ARGV do queues[ARGV[i]] = true end
if #ARGV == 2 then before = long_before end
local queued = redis.call('ZRANGEBYSCORE', P .. 'queued', '-inf', stamp(before), 'WITHSCORES')
for i = 1, #queued, 2 do
    if #late == 100 then break end
    local id, since = queued[i], tonumber(queued[i + 1])
    local queue_name = redis.call('HGET', job(id), 'queue')
    if queues[queue_name] or since <= long_before then
        redis.call('ZADD', P .. 'queued', stamp(moment), id)
        late[#late + 1] = {id, queue_name}
    end
end
return late
"""
)

# finished jobs to keep -> how many were deleted. It only deletes, so it works where memory is full.
TRIM = (
    _COMMON
    + """
local excess = math.min(redis.call('ZCARD', P .. 'finished') - ARGV[1], 100)
if excess <= 0 then return 0 end
for _, id in ipairs(redis.call('ZRANGE', P .. 'finished', 0, excess - 1)) do
    release_key(id)
    redis.call('DEL', job(id), job(id) .. ':events')
    redis.call('ZREM', P .. 'finished', id)
    redis.call('ZREM', P .. 'jobs', id)
end
return excess
"""
)
