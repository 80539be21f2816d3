-- id of a call, the number of this try, its outcome, seconds until the next try, the HTTP status or '', what failed or ''
--   -> 1, or 0 if another try began meanwhile
-- The outcome is 'delivered', 'failed' for good, 'again', or 'busy' for a try that was not made, and does not count.

local id, attempts, outcome, pause, status, fault = unpack(ARGV)
local record = webhook(id)
if not is_pending(id) or redis.call('HGET', record, 'attempts') ~= attempts then return 0 end
if outcome == 'busy' then
    redis.call('HINCRBY', record, 'attempts', -1)
else
    redis.call('HSET', record, 'status', status, 'fault', fault)
    redis.call('HINCRBY', record, 'tries', 1)
end
if outcome == 'busy' or outcome == 'again' then
    redis.call('ZADD', P .. 'webhooks', stamp(now() + tonumber(pause)), id)
    return 1
end
redis.call('ZREM', P .. 'webhooks', id)
redis.call('HSET', record, 'state', outcome)
redis.call('HDEL', record, 'url', 'head', 'after')
local found = redis.call('HMGET', record, 'job', 'event')
local field = cjson.encode({'tailprune_webhook_calls', found[2], outcome})
redis.call('HINCRBY', P .. 'telemetry', field, 1)
local is_shown = false
for _, each in ipairs(subscribers(found[1])) do
    is_shown = is_shown or delivery_of(found[1], each, found[2]) == id
end
if not is_shown then redis.call('DEL', record) end
return 1
