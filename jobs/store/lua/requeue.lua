-- seconds, more seconds, then queues -> id and queue of the jobs that have waited longer than the first in one of these
-- queues, or longer than the second in any queue; their waiting time starts again

local moment = now()
local before, long_before = moment - ARGV[1], moment - ARGV[2]
local queues, late = {}, {}
for i = 3, #ARGV do queues[ARGV[i]] = true end
if #ARGV == 2 then before = long_before end
local queued = redis.call('ZRANGEBYSCORE', P .. 'queued', '-inf', stamp(before), 'WITHSCORES')
for i = 1, #queued, 2 do
    if #late == 100 then break end
    local id, since = queued[i], tonumber(queued[i + 1])
    local queue_name = redis.call('HGET', job(id), 'queue')
    if queues[queue_name] or since <= long_before then
        redis.call('ZADD', P .. 'queued', stamp(moment), id)
        late[#late + 1] = {id, queue_name}
    end
end
return late
