-- seconds, more seconds, the problem of a job whose record is damaged, then queues
--   -> id and queue of the jobs that have waited longer than the first in one of these queues, or longer than the
--      second in any queue; their waiting time starts again

local moment, problem = now(), ARGV[3]
local empty, late = {}, {}
for i = 4, #ARGV do empty[ARGV[i]] = true end
for _, name in ipairs(QUEUES) do
    local waiting = P .. 'queued:' .. name
    -- The clock was set back since these were queued: they wait from now on.
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, stamp(moment + 1), '+inf', 'LIMIT', 0, 100)) do
        redis.call('ZADD', waiting, stamp(moment), id)
    end
    local before = moment - tonumber(empty[name] and ARGV[1] or ARGV[2])
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', stamp(before), 'LIMIT', 0, 100 - #late)) do
        local status = fields(id, 'status')[1]
        if status == 'queued' then
            redis.call('ZADD', waiting, stamp(moment), id)
            late[#late + 1] = {id, name}
        elseif redis.call('TYPE', job(id)).ok == 'hash' then
            fail(id, problem)
        else
            remove(id)
        end
    end
end
return late
