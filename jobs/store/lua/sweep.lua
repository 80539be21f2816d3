-- most attempts, the problem of a job that has used them up
--   -> id and queue of those queued again, and of those failed

local most, problem = tonumber(ARGV[1]), ARGV[2]
local queued, failed = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', stamp(now()), 'LIMIT', 0, 100)) do
    redis.call('ZREM', P .. 'leases', id)
    local f = redis.call('HMGET', job(id), 'status', 'cancel', 'queue')
    if f[1] == 'running' then
        if f[2] then
            finish(id, 'cancelled')
        elseif losses(id) < most then
            queue(id)
            queued[#queued + 1] = {id, f[3]}
        else
            redis.call('HSET', job(id), 'problem', problem)
            finish(id, 'failed')
            failed[#failed + 1] = {id, f[3]}
        end
    end
end
return {queued, failed}
