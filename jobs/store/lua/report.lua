-- id, token, progress -> 1, or 0 if the lease is lost

local id, token, progress = unpack(ARGV)
if not holds(id, token) then return 0 end
redis.call('HSET', job(id), 'progress', progress)
event(id, 'progress', progress)
return 1
