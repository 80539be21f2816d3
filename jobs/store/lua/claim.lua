-- id, worker, seconds of lease -> the record, whose `attempts` is the token; nothing unless the job is queued
-- One whose worker was lost is queued by the sweep first, which alone judges leases.

local id, worker, lease = unpack(ARGV)
local f = fields(id, 'status', 'attempts')
if f[1] ~= 'queued' then return {} end
local started = now()
redis.call('HSET', job(id), 'worker', worker, 'started', stamp(started), 'attempts', number(f[2]) + 1)
redis.call('HDEL', job(id), 'progress')
unqueue(id)
redis.call('ZADD', P .. 'leases', stamp(started + lease), id)
to_status(id, 'running')
return redis.call('HGETALL', job(id))
