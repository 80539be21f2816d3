-- id, token, seconds for which the job has run -> 1 and the job is queued again, as the next (or cancelled, if that was
-- requested), or 0 if the lease is lost

local id, token, ran = unpack(ARGV)
if not holds(id, token) then return 0 end
if redis.call('HEXISTS', job(id), 'cancel') == 1 then
    finish(id, 'cancelled')
    return 1
end
redis.call('HSET', job(id), 'handovers', number(fields(id, 'handovers')[1]) + 1, 'ran', ran)
redis.call('HDEL', job(id), 'progress')
redis.call('ZREM', P .. 'leases', id)
queue(id, 'returned')
return 1
