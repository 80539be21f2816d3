-- seconds after which a call that is not heard of again is due again, the longest pause between two tries
--   -> id and number of tries of each call that is due, up to a hundred
-- A call after another of the same webhook waits until that was tried once, so that they come in order.

local lapse, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
local moment, due = now(), {}
local calls = P .. 'webhooks'
-- The clock was set back since these were put off.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', calls, stamp(moment + longest), '+inf', 'LIMIT', 0, 100)) do
    redis.call('ZADD', calls, stamp(moment), id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', calls, '-inf', stamp(moment), 'LIMIT', 0, 100)) do
    local found = redis.pcall('HMGET', webhook(id), 'attempts', 'after')
    if found.err or not found[1] then
        redis.call('ZREM', calls, id)
        redis.call('DEL', webhook(id))
    elseif found[2] and is_pending(found[2]) and redis.call('HGET', webhook(found[2]), 'tries') == '0' then
        redis.call('ZADD', calls, stamp(moment + 1), id)
    else
        redis.call('ZADD', calls, stamp(moment + lapse), id)
        due[#due + 1] = {id, found[1]}
    end
end
return due
