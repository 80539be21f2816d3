-- id, owner or '', URL, events, most webhooks of a job -> 'unknown', 'full' or 'subscribed'

local id, owner, url, events, most = unpack(ARGV)
if not fields(id, 'status')[1] then return 'unknown' end
return subscribe(id, owner, url, events, tonumber(most)) and 'subscribed' or 'full'
