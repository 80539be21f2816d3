-- Take over the records of earlier versions: one had a single zset of queued jobs, and no ids by status, kind and model;
-- the next had no order of those that wait. The first takes tens of microseconds a job, so it is done once.

local layout = redis.call('GET', P .. 'layout')
if not layout then
    for _, id in ipairs(redis.call('ZRANGE', P .. 'jobs', 0, -1)) do
        local f = fields(id, 'status', 'kind', 'model')
        for i, facet in ipairs({'status', 'kind', 'model'}) do
            if f[i] then redis.call('ZADD', index(facet, f[i]), 0, id) end
        end
    end
    local known = {}
    for _, name in ipairs(QUEUES) do known[name] = name end
    for _, id in ipairs(redis.call('ZRANGE', P .. 'queued', 0, -1)) do
        local name = known[fields(id, 'queue')[1]] or QUEUES[1]
        redis.call('ZADD', P .. 'queued:' .. name, redis.call('ZSCORE', P .. 'queued', id), id)
    end
    redis.call('DEL', P .. 'queued')
    redis.call('SET', P .. 'layout', '2')
end
-- A worker of an earlier version takes jobs out of `queued` alone.
for _, name in ipairs(QUEUES) do
    local waiting, order = P .. 'queued:' .. name, P .. 'order:' .. name
    if redis.call('ZCARD', waiting) ~= redis.call('ZCARD', order) then
        redis.call('DEL', order)
        local ids = redis.call('ZRANGE', waiting, 0, -1)
        table.sort(ids)  -- in order of creation
        for _, id in ipairs(ids) do redis.call('ZADD', order, redis.call('INCR', P .. 'order'), id) end
    end
end
return layout and 0 or 1
