-- -> the ids of running jobs, each with the time until which its lease was last renewed. One without a lease receives
-- one, which nobody renews.
-- The removal of nothing is refused where a renewal would be: then leases are not judged.

redis.call('ZREM', P .. 'leases', '')
for _, id in ipairs(redis.call('ZRANGE', index('status', 'running'), 0, -1)) do
    if not redis.call('ZSCORE', P .. 'leases', id) then redis.call('ZADD', P .. 'leases', stamp(now()), id) end
end
return redis.call('ZRANGE', P .. 'leases', 0, -1, 'WITHSCORES')
