-- id, token, seconds of lease -> 1, or 0 where the lease is lost.
-- It works where memory is full, or every running job would lapse: Redis refuses a script's first write if that
-- may take memory, and removing takes none.

local id, token, lease = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('ZREM', P .. 'leases', id)
redis.call('ZADD', P .. 'leases', stamp(now() + lease), id)
return 1
