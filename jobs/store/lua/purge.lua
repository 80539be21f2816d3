-- id -> 'unknown', 'unfinished', or 'purged' and the job is deleted. It only deletes, so it works while memory is full.

local id = ARGV[1]
if redis.call('EXISTS', job(id)) == 0 then return 'unknown' end
local status = fields(id, 'status')[1]
if status == 'queued' or status == 'running' then return 'unfinished' end
remove(id)
return 'purged'
