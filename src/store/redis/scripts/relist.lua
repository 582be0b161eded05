-- Puts an id where its status says, should it be elsewhere or nowhere, and into the listings. ARGV: id unpop(0|1)
-- unpop: one that was popped and never claimed goes back to the head.
if status then
  redis.call('ZADD', jobs, created, id)
  redis.call('ZADD', jobs .. ':ids', 0, id)
  set_status(status)
end
local waits, runs = redis.call('LPOS', queue, id), redis.call('LPOS', running, id)
if not lives then
  if waits or runs then into_none() return {'done', ''} end
elseif status == 'queued' then
  if waits and runs then redis.call('LREM', running, 0, id) return {'done', ''} end
  if not waits and (not runs or ARGV[2] == '1') then into_queue_head() return {'done', ''} end
else
  if waits then redis.call('LREM', queue, 0, id) end
  if waits or not runs then into_running() return {'done', ''} end
end
return {'same', ''}
