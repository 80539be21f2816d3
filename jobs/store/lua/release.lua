-- id, token -> 1 and the job is queued again (or cancelled, if that was requested), or 0 if the lease is lost

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
