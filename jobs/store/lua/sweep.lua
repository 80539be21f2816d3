-- most attempts, the problem of a job that has used them up, that of a job whose record is damaged, then ids, each
-- with the time until which its lease was renewed when it was found expired
--   -> id and queue of those queued again, as the next, and of those failed

local most, lost, damaged = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local queued, failed = {}, {}
for i = 4, #ARGV, 2 do
    local id = ARGV[i]
    local expiry = redis.call('ZSCORE', P .. 'leases', id)
    if expiry and tonumber(expiry) == tonumber(ARGV[i + 1]) then  -- else renewed meanwhile, or found by another worker
        redis.call('ZREM', P .. 'leases', id)
        local f = fields(id, 'status', 'cancel')
        if f[1] == 'running' then
            if f[2] then
                finish(id, 'cancelled')
            elseif losses(id) < most then
                queue(id, 'returned')
                queued[#queued + 1] = {id, 'returned'}
            else
                fail(id, lost)
                failed[#failed + 1] = {id, ''}
            end
        elseif redis.call('TYPE', job(id)).ok ~= 'hash' then
            remove(id)
        elseif not FINISHED[f[1]] and f[1] ~= 'queued' then
            fail(id, damaged)
            failed[#failed + 1] = {id, ''}
        end
    end
end
return {queued, failed}
