-- Functions that the scripts share, prepended to each after two constants from `jobs.store.scripts`:
--   P            the prefix of every key
--   EVENTS_KEPT  about how many events of a job are kept

local function job(id) return P .. 'job:' .. id end

local function now()
    local t = redis.call('TIME')
    return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function stamp(seconds) return string.format('%.6f', seconds) end

local function event(id, name, data)
    redis.call('XADD', job(id) .. ':events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', name, 'data', data)
end

local function to_status(id, status)
    redis.call('HSET', job(id), 'status', status)
    event(id, 'status', cjson.encode({status = status}))
end

local function release_key(id)
    local pointer = P .. 'key:' .. redis.call('HGET', job(id), 'key')
    if redis.call('GET', pointer) == id then redis.call('DEL', pointer) end
end

-- How many workers were lost over a job: those that claimed it and did not release it.
local function losses(id)
    local f = redis.call('HMGET', job(id), 'attempts', 'handovers')
    return tonumber(f[1]) - tonumber(f[2] or 0)
end

-- Queue a job. One that lost a worker may have caused that, so it no longer shares batches.
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

-- Whether the lease of a running job has expired.
local function expired(id)
    local expiry = redis.call('ZSCORE', P .. 'leases', id)
    return not expiry or tonumber(expiry) < now()
end

local function holds(id, token)
    local f = redis.call('HMGET', job(id), 'status', 'attempts')
    return f[1] == 'running' and f[2] == token
end
