-- id of a call, how often it was tried, seconds after which it is due again if nothing is heard of this try
--   -> the record of the call; nothing if it was tried more often, or needs no try

local id, attempts, lapse = unpack(ARGV)
if not is_pending(id) or redis.call('HGET', webhook(id), 'attempts') ~= attempts then return {} end
redis.call('HINCRBY', webhook(id), 'attempts', 1)
redis.call('ZADD', P .. 'webhooks', stamp(now() + tonumber(lapse)), id)
return redis.call('HGETALL', webhook(id))
