-- id, kind, queue, key, model, request, idempotency key, fingerprint, its life in seconds, group and rows (of a job that
-- can share a batch), stale id
--   -> the id of the job, and 'created', 'joined' or 'conflict'

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
