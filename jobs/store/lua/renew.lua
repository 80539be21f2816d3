-- id, token, seconds of lease, seconds for which the job has run -> 1, or 0 if the lease is lost.
-- It must work while memory is full, or every running job would be lost: Redis refuses a script whose first write may
-- need memory, and a removal needs none.

local id, token, lease, ran = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('ZREM', P .. 'leases', id)
redis.call('ZADD', P .. 'leases', stamp(now() + lease), id)
redis.call('HSET', job(id), 'ran', ran)
return 1
