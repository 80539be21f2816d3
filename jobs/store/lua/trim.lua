-- finished jobs to keep -> how many were deleted. It only deletes, so it works while memory is full.

local excess = math.min(redis.call('ZCARD', P .. 'finished') - ARGV[1], 100)
if excess <= 0 then return 0 end
for _, id in ipairs(redis.call('ZRANGE', P .. 'finished', 0, excess - 1)) do
    release_key(id)
    redis.call('DEL', job(id), job(id) .. ':events')
    redis.call('ZREM', P .. 'finished', id)
    redis.call('ZREM', P .. 'jobs', id)
end
return excess
