-- id, rows that a batch can hold, number of workers -> the oldest queued jobs that can share a batch with this running
-- job, as many as fit, but no more than its worker's share of the waiting ones

local id, rows, workers = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local f = fields(id, 'group', 'rows')
if not f[1] or losses(id) > 2 then return {} end  -- a running job counts as one
local group, room = P .. 'group:' .. f[1], rows - number(f[2])
local most = math.ceil((redis.call('ZCARD', group) + 1) / workers) - 1
local companions = {}
for _, other in ipairs(redis.call('ZRANGE', group, 0, rows - 1)) do
    if #companions >= most then break end
    local taken = number(fields(other, 'rows')[1])
    if taken > 0 and taken <= room then
        companions[#companions + 1] = other
        room = room - taken
    end
end
return companions
