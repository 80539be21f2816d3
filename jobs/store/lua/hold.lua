-- subject, process, how many slots, the most of all processes, seconds -> how many slots the process now holds
-- A field for each process has its slots and when they are lost unless it holds them again.

local key, process = P .. 'slots:' .. ARGV[1], ARGV[2]
local wanted, most, life = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local moment, others = now(), 0
local held = redis.call('HGETALL', key)
for i = 1, #held, 2 do
    local count, expiry = string.match(held[i + 1], '^(%d+) ([%d.]+)$')
    if held[i] ~= process and (number(expiry) < moment or number(expiry) > moment + life) then
        redis.call('HDEL', key, held[i])
    elseif held[i] ~= process then
        others = others + number(count)
    end
end
local slots = math.max(0, math.min(wanted, most - others))
if slots > 0 then
    redis.call('HSET', key, process, slots .. ' ' .. stamp(moment + life))
    redis.call('EXPIRE', key, life)
else
    redis.call('HDEL', key, process)
end
return slots
