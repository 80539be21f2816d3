-- ids -> the place of each in its queue, from 1; 0 for one that does not wait

local places = {}
for i, id in ipairs(ARGV) do places[i] = place(id) end
return places
