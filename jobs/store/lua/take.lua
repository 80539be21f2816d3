-- subject, how many permits, the most of a window, seconds of a window
--   -> how many were taken, how many are left, and the milliseconds until the window ends

local key = P .. 'rate:' .. ARGV[1]
local wanted, most, life = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local taken = number(redis.call('GET', key))
local granted = math.max(0, math.min(wanted, most - taken))
if granted > 0 then
    redis.call('INCRBY', key, granted)
    if taken == 0 then redis.call('EXPIRE', key, life) end
end
return {granted, math.max(0, most - taken - granted), math.max(0, redis.call('PTTL', key))}
