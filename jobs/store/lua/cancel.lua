-- id -> 'unknown', 'finished', 'cancelled' (it was queued, or its worker lost) or 'requested' (its worker will stop)

local id = ARGV[1]
local status = redis.call('HGET', job(id), 'status')
if not status then return 'unknown' end
if status == 'queued' or (status == 'running' and expired(id)) then
    finish(id, 'cancelled')
    return 'cancelled'
end
if status ~= 'running' then return 'finished' end
redis.call('HSET', job(id), 'cancel', 1)
release_key(id)
return 'requested'
