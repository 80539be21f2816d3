-- id, token, result, the data of its event -> 1, or 0 if the lease is lost
-- Of these events only the latest is kept: it says all that those before it said.

local id, token, result, data = unpack(ARGV)
if not holds(id, token) then return 0 end
local before = fields(id, 'result-event')[1]
if before then redis.pcall('XDEL', job(id) .. ':events', before) end
redis.call('HSET', job(id), 'result', result, 'result-event', event(id, 'result', data))
return 1
