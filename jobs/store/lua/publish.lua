-- id, token, result -> 1, or 0 if the lease is lost

local id, token, result = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('HSET', job(id), 'result', result)
return 1
