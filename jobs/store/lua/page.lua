-- cursor or '', how many, then facets (status, kind, model) and the value that each must have
--   -> the ids that follow the cursor, newest first

local cursor, count = ARGV[1], tonumber(ARGV[2])
local sets = {P .. 'jobs'}
for i = 3, #ARGV, 2 do sets[#sets + 1] = index(ARGV[i], ARGV[i + 1]) end
table.sort(sets, function(a, b) return redis.call('ZCARD', a) < redis.call('ZCARD', b) end)

local function in_all(id)
    for i = 2, #sets do
        if not redis.call('ZSCORE', sets[i], id) then return false end
    end
    return true
end

local found, before = {}, cursor == '' and '+' or '(' .. cursor
while #found < count do
    local ids = redis.call('ZREVRANGEBYLEX', sets[1], before, '-', 'LIMIT', 0, 500)
    for _, id in ipairs(ids) do
        if #found < count and in_all(id) then found[#found + 1] = id end
    end
    if #ids < 500 then break end
    before = '(' .. ids[#ids]
end
return found
