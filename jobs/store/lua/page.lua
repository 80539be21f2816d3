-- cursor or '', how many, then facets (status, kind, model) and a value of each; a facet that comes several times has
-- any of these values -> the ids that follow the cursor, newest first

local cursor, count = ARGV[1], tonumber(ARGV[2])
local wanted, of = {{P .. 'jobs'}}, {}
for i = 3, #ARGV, 2 do
    local facet = ARGV[i]
    if not of[facet] then
        of[facet] = {}
        wanted[#wanted + 1] = of[facet]
    end
    table.insert(of[facet], index(facet, ARGV[i + 1]))
end

local function size(sets)
    local sum = 0
    for _, set in ipairs(sets) do sum = sum + redis.call('ZCARD', set) end
    return sum
end
table.sort(wanted, function(a, b) return size(a) < size(b) end)

local function in_any(sets, id)
    for _, set in ipairs(sets) do
        if redis.call('ZSCORE', set, id) then return true end
    end
    return false
end

local function in_all(id)
    for i = 2, #wanted do
        if not in_any(wanted[i], id) then return false end
    end
    return true
end

local found = {}
for _, set in ipairs(wanted[1]) do
    local before, most = cursor == '' and '+' or '(' .. cursor, #found + count
    while #found < most do
        local ids = redis.call('ZREVRANGEBYLEX', set, before, '-', 'LIMIT', 0, 500)
        for _, id in ipairs(ids) do
            if #found < most and in_all(id) then found[#found + 1] = id end
        end
        if #ids < 500 then break end
        before = '(' .. ids[#ids]
    end
end
table.sort(found, function(a, b) return a > b end)
return {unpack(found, 1, math.min(count, #found))}
