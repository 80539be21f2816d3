-- id, idempotency key, fingerprint, its life in seconds, owner, stale id, most queued jobs, most of its owner,
-- URL and events of a webhook of a new job, or '' twice, then names and values of the fields of a new record
--   -> the id of the job, and 'created', 'joined' or 'conflict'; '' and 'full' or 'full of its owner'

local id, idempotency, fingerprint, life, owner, stale = unpack(ARGV)
local most, most_of_owner = tonumber(ARGV[7]), tonumber(ARGV[8])
local record = {}
for i = 11, #ARGV, 2 do record[ARGV[i]] = ARGV[i + 1] end
local note = P .. 'idempotency:' .. idempotency
local pointer = P .. 'key:' .. record.key

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
        if owner ~= '' then ask(known[2], owner) end
        return {known[2], 'joined'}
    end
end

local answering = redis.call('GET', pointer)
if answering and answering ~= stale and redis.call('EXISTS', job(answering)) == 1 then
    remember(answering)
    if owner ~= '' then ask(answering, owner) end
    return {answering, 'joined'}
end

local waiting = 0
for _, name in ipairs(QUEUES) do waiting = waiting + redis.call('ZCARD', P .. 'queued:' .. name) end
if waiting >= most then return {'', 'full'} end
if owner ~= '' and redis.call('SCARD', P .. 'owned:' .. owner) >= most_of_owner then
    return {'', 'full of its owner'}
end

redis.call('HSET', job(id), 'id', id, 'created', stamp(now()), 'attempts', 0, unpack(ARGV, 11))
if owner ~= '' then
    redis.call('HSET', job(id), 'owner', owner)
    ask(id, owner)
end
redis.call('SET', pointer, id)
redis.call('ZADD', P .. 'jobs', 0, id)
redis.call('ZADD', index('kind', record.kind), 0, id)
redis.call('ZADD', index('model', record.model), 0, id)
queue(id, record.queue)
if ARGV[9] ~= '' then subscribe(id, owner, ARGV[9], ARGV[10], 1) end
remember(id)
return {id, 'created'}
