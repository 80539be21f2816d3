-- id, token, status, then names and values of fields of the record -> 1, or 0 if the lease is lost.
-- A second call with the same token also answers 1: a worker repeats a call whose answer was lost.

local id, token, status = ARGV[1], ARGV[2], ARGV[3]
local f = fields(id, 'status', 'attempts')
if f[1] == status and f[2] == token then return 1 end
if not holds(id, token) then return 0 end
for i = 4, #ARGV, 2 do redis.call('HSET', job(id), ARGV[i], ARGV[i + 1]) end
finish(id, status)
return 1
