-- Take over the records of an earlier version, which had one zset of queued jobs, and no ids by status, kind and model.
-- That takes tens of microseconds a job, so it is done once.

if redis.call('GET', P .. 'layout') == '2' then return 0 end
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
return 1
