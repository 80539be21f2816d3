-- Functions that the scripts share, prepended to each after constants from `jobs.store.scripts`:
--   P              the prefix of every key
--   QUEUES         the names of all queues
--   HISTORIES      the keys of all histories of finished jobs
--   EVENTS_KEPT    about how many events of a job are kept while it is under way
--   EVENTS_LEFT    how many of them once it has finished
--   HEAD_FIELDS    the fields of a record that lists show
-- A field of a record may be missing or damaged: such a job is finished as failed, and must not stop a script.

local function job(id) return P .. 'job:' .. id end

-- The values of fields of a record; all missing where the key holds no record.
local function fields(id, ...)
    local found = redis.pcall('HMGET', job(id), ...)
    return found.err and {} or found
end

-- A count in a record; 0 where it is missing or damaged.
local function number(text)
    local value = tonumber(text or 0) or 0
    return value >= 0 and value < 1e15 and value or 0
end

local function now()
    local t = redis.call('TIME')
    return tonumber(t[1]) + tonumber(t[2]) / 1e6
end

local function stamp(seconds) return string.format('%.6f', seconds) end

-- Write and publish an event; `head`, if it is given, are the fields of a job that lists show. Returns its id.
local function event(id, name, data, head)
    local at = redis.call('XADD', job(id) .. ':events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', name, 'data', data)
    redis.call('PUBLISH', P .. 'events', cjson.encode({job = id, id = at, event = name, data = data, head = head}))
    return at
end

-- The place of a job among those that wait in its queue, from 1; 0 for one that does not wait.
-- Jobs that came back are taken before all others, whichever queue those wait in.
local function place(id)
    for _, name in ipairs(QUEUES) do
        local before = redis.call('ZRANK', P .. 'order:' .. name, id)
        if before then
            if name ~= 'returned' then before = before + redis.call('ZCARD', P .. 'order:returned') end
            return before + 1
        end
    end
    return 0
end

-- What lists show of a job: those of the fields that there are, and its place in its queue.
local function head(id)
    local found = {place = place(id)}
    for i, value in ipairs(fields(id, unpack(HEAD_FIELDS))) do
        if value then found[HEAD_FIELDS[i]] = value end
    end
    return found
end

-- The key of the ids of a status, kind or model.
local function index(facet, value) return P .. 'jobs:' .. facet .. ':' .. (value or '') end

-- Take a job out of the list of its status, whatever its record says that is.
local function leave_status(id)
    for _, status in ipairs({'queued', 'running', 'succeeded', 'failed', 'cancelled'}) do
        redis.call('ZREM', index('status', status), id)
    end
end

local FINISHED = {succeeded = true, failed = true, cancelled = true}

-- What webhooks call the statuses that they hear of.
local HEARD = {running = 'started', succeeded = 'succeeded', failed = 'failed', cancelled = 'cancelled'}

local function webhook(delivery) return P .. 'webhook:' .. delivery end

local function is_pending(delivery) return redis.call('ZSCORE', P .. 'webhooks', delivery) end

-- The webhooks of a job, each with whose it is, its URL, its number and the events that it wants.
local function subscribers(id)
    local found, list = redis.pcall('HGETALL', job(id) .. ':webhooks'), {}
    if found.err then return list end
    for i = 1, #found, 2 do
        local owner, url = string.match(found[i], '^(%S*) (.*)$')
        local number, events = string.match(found[i + 1], '^(%d+) (.*)$')
        if owner and number then
            list[#list + 1] = {field = found[i], owner = owner, url = url, number = number, events = events}
        end
    end
    return list
end

local function delivery_of(id, subscriber, name) return id .. '-' .. subscriber.number .. '-' .. name end

-- Have a webhook called for what happened to its job, unless it does not want to hear of it, or was called already.
local function call(id, subscriber, name)
    local delivery = delivery_of(id, subscriber, name)
    if not string.find(' ' .. subscriber.events .. ' ', ' ' .. name .. ' ', 1, true) then return end
    if redis.call('EXISTS', webhook(delivery)) == 1 then return end
    local moment, started = stamp(now()), delivery_of(id, subscriber, 'started')
    redis.call('HSET', webhook(delivery), 'id', delivery, 'job', id, 'url', subscriber.url, 'event', name,
        'time', moment, 'head', cjson.encode(head(id)), 'state', 'pending', 'attempts', 0, 'tries', 0)
    if name ~= 'started' and is_pending(started) then redis.call('HSET', webhook(delivery), 'after', started) end
    redis.call('ZADD', P .. 'webhooks', moment, delivery)
end

-- Forget a webhook of a job, and its calls; those that are pending are still made.
local function forget(id, subscriber)
    redis.call('HDEL', job(id) .. ':webhooks', subscriber.field)
    for _, name in pairs(HEARD) do
        local delivery = delivery_of(id, subscriber, name)
        if not is_pending(delivery) then redis.call('DEL', webhook(delivery)) end
    end
end

local function is_settled(id, subscriber)
    for _, name in pairs(HEARD) do
        if is_pending(delivery_of(id, subscriber, name)) then return false end
    end
    return true
end

-- Add a webhook of an owner ('' for nobody in particular) to a job, and have it called for the status that the job has.
-- Returns false where the job has `most` already. Those of a finished job that were called make room for new ones; one
-- that asks again is called again.
local function subscribe(id, owner, url, events, most)
    local status = fields(id, 'status')[1]
    local heard, over = HEARD[status], FINISHED[status]
    local all, known = subscribers(id), nil
    for _, each in ipairs(all) do
        if each.owner == owner and each.url == url then known = each end
    end
    if known and over then
        local delivery = delivery_of(id, known, heard)
        if redis.call('EXISTS', webhook(delivery)) == 1 and not is_pending(delivery) then
            forget(id, known)
            known = nil
        end
    end
    if known then
        known.events = known.events .. ' ' .. events
    else
        local places = most - redis.call('HLEN', job(id) .. ':webhooks')
        for _, each in ipairs(over and all or {}) do
            if places > 0 then break end
            if is_settled(id, each) then
                forget(id, each)
                places = places + 1
            end
        end
        if places <= 0 then return false end
        local number = redis.call('HINCRBY', job(id), 'webhooks', 1)
        known = {field = owner .. ' ' .. url, owner = owner, url = url, number = number, events = events}
    end
    local names, seen = {}, {}
    for name in string.gmatch(known.events, '%S+') do
        if not seen[name] then names[#names + 1] = name end
        seen[name] = true
    end
    known.events = table.concat(names, ' ')
    redis.call('HSET', job(id) .. ':webhooks', known.field, known.number .. ' ' .. known.events)
    if heard then call(id, known, heard) end
    return true
end

local function to_status(id, status)
    leave_status(id)
    redis.call('ZADD', index('status', status), 0, id)
    redis.call('HSET', job(id), 'status', status)
    event(id, 'status', cjson.encode({status = status}), head(id))
    if HEARD[status] then
        for _, each in ipairs(subscribers(id)) do call(id, each, HEARD[status]) end
    end
end

local function release_key(id)
    local pointer = P .. 'key:' .. (fields(id, 'key')[1] or '')
    if redis.call('GET', pointer) == id then redis.call('DEL', pointer) end
end

-- How many workers were lost over a job: those that claimed it and did not release it.
local function losses(id)
    local f = fields(id, 'attempts', 'handovers')
    return number(f[1]) - number(f[2])
end

-- Put a job into a queue. One that lost two workers may be what they were lost for, so it no longer shares batches.
local function queue(id, name)
    local f = fields(id, 'group', 'owner')
    redis.call('HSET', job(id), 'queue', name)
    redis.call('ZADD', P .. 'queued:' .. name, stamp(now()), id)
    redis.call('ZADD', P .. 'order:' .. name, redis.call('INCR', P .. 'order'), id)
    if f[2] then redis.call('SADD', P .. 'owned:' .. f[2], id) end
    if f[1] and losses(id) < 2 then redis.call('ZADD', P .. 'group:' .. f[1], 0, id) end
    to_status(id, 'queued')
end

local function unqueue(id)
    local f = fields(id, 'group', 'owner')
    for _, name in ipairs(QUEUES) do
        redis.call('ZREM', P .. 'queued:' .. name, id)
        redis.call('ZREM', P .. 'order:' .. name, id)
    end
    if f[1] then redis.call('ZREM', P .. 'group:' .. f[1], id) end
    if f[2] then redis.call('SREM', P .. 'owned:' .. f[2], id) end
end

local function finish(id, status)
    local f = fields(id, 'kind', 'key', 'history')
    redis.call('HSET', job(id), 'finished', stamp(now()))
    redis.call('HDEL', job(id), 'result', 'cancel')
    redis.call('ZREM', P .. 'leases', id)
    unqueue(id)
    -- A history is in order of finishing, whatever the clock says.
    local history = P .. 'finished' .. (f[3] and ':' .. f[3] or '')
    local last = redis.call('ZREVRANGE', history, 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', history, stamp(number(last) + 1), id)
    if status == 'succeeded' and f[2] then
        redis.call('SET', P .. 'key:' .. f[2], id, 'NX')
    else
        release_key(id)
    end
    redis.call('HINCRBY', P .. 'telemetry', cjson.encode({'tailprune_jobs', f[1] or 'unknown', status}), 1)
    to_status(id, status)
    redis.call('XTRIM', job(id) .. ':events', 'MAXLEN', EVENTS_LEFT)
end

local function fail(id, problem)
    redis.call('HSET', job(id), 'problem', problem)
    finish(id, 'failed')
end

-- Delete a job, and everything that names it.
local function remove(id)
    local f = fields(id, 'kind', 'model')
    release_key(id)
    unqueue(id)
    for i, facet in ipairs({'kind', 'model'}) do redis.call('ZREM', index(facet, f[i]), id) end
    leave_status(id)
    redis.call('ZREM', P .. 'jobs', id)
    redis.call('ZREM', P .. 'leases', id)
    for _, history in ipairs(HISTORIES) do redis.call('ZREM', history, id) end
    for _, each in ipairs(subscribers(id)) do forget(id, each) end
    redis.call('DEL', job(id), job(id) .. ':events', job(id) .. ':webhooks')
    redis.call('PUBLISH', P .. 'events', cjson.encode({job = id, event = 'deleted'}))
end

-- Who asked for a job, and has not cancelled it since.
local function askers(id)
    local names = fields(id, 'askers')[1]
    local read, list = pcall(cjson.decode, names or '[]')
    return read and type(list) == 'table' and list or {}
end

local function ask(id, name)
    local list = askers(id)
    for _, each in ipairs(list) do
        if each == name then return end
    end
    table.insert(list, name)
    redis.call('HSET', job(id), 'askers', cjson.encode(list))
end

-- Take one of those who asked for a job off it, and the own webhooks with it where the job goes on for others. Returns
-- how many others there are; nothing if it was none of them. The job of an owner who leaves is then the first of the
-- others'.
local function leave(id, name)
    local others, found = {}, false
    for _, each in ipairs(askers(id)) do
        if each == name then found = true else table.insert(others, each) end
    end
    if not found then return nil end
    if #others > 0 then
        redis.call('HSET', job(id), 'askers', cjson.encode(others))
        for _, each in ipairs(subscribers(id)) do
            if each.owner == name then forget(id, each) end
        end
        local f = fields(id, 'owner', 'status')
        if f[1] == name then
            redis.call('HSET', job(id), 'owner', others[1])
            redis.call('SREM', P .. 'owned:' .. name, id)
            if f[2] == 'queued' then redis.call('SADD', P .. 'owned:' .. others[1], id) end
        end
    end
    return #others
end

local function holds(id, token)
    local f = fields(id, 'status', 'attempts')
    return f[1] == 'running' and f[2] == token
end
