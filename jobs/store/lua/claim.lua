-- id, worker, seconds of lease, most attempts
--   -> the record, whose `attempts` is the token; nothing if the job is not claimable

local id, worker, lease, most = unpack(ARGV)
local f = redis.call('HMGET', job(id), 'status', 'cancel')
local lost = f[1] == 'running' and not f[2] and losses(id) < tonumber(most) and expired(id)
if f[1] ~= 'queued' and not lost then return {} end
local started = now()
redis.call('HSET', job(id), 'worker', worker, 'started', stamp(started))
redis.call('HDEL', job(id), 'progress')
unqueue(id)
redis.call('ZADD', P .. 'leases', stamp(started + lease), id)
to_status(id, 'running')
redis.call('HINCRBY', job(id), 'attempts', 1)
return redis.call('HGETALL', job(id))
