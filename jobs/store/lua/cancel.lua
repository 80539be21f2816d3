-- id, seconds of lease, and on whose behalf, if not for all
--   -> 'unknown', 'finished', 'cancelled' (it was queued, its worker lost, or its record damaged), 'requested' (its
--      worker will stop), 'of others' (who cancels it did not ask for it) or 'left' (it goes on for others)
-- Whether a worker is lost is judged by the clock here, which may have been set meanwhile: a worker that is alive after
-- all then stops where it next renews its lease, and that is what was asked for.

local id, lease = ARGV[1], tonumber(ARGV[2])
if redis.call('TYPE', job(id)).ok ~= 'hash' then
    remove(id)
    return 'unknown'
end
local status = fields(id, 'status')[1]
if FINISHED[status] then return 'finished' end
if ARGV[3] then
    local others = leave(id, ARGV[3])
    if not others then return 'of others' end
    if others > 0 then return 'left' end
end
local expiry = tonumber(redis.call('ZSCORE', P .. 'leases', id) or 0)
local moment = now()
if status ~= 'running' or expiry < moment or expiry > moment + lease then
    finish(id, 'cancelled')
    return 'cancelled'
end
redis.call('HSET', job(id), 'cancel', 1)
release_key(id)
return 'requested'
