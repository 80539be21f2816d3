-- a history, finished jobs to keep in it -> how many were deleted. It only deletes, so it works while memory is full.

local history = P .. ARGV[1]
local excess = math.min(redis.call('ZCARD', history) - ARGV[2], 100)
if excess <= 0 then return 0 end
for _, id in ipairs(redis.call('ZRANGE', history, 0, excess - 1)) do
    remove(id)
    redis.call('ZREM', history, id)
end
return excess
