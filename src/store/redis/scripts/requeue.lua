-- Running becomes queued, at the head of the line: by the holder (token), or by whoever found it
-- without a lease (token empty; then nothing may have changed since `stamp`).
-- ARGV: id token stamp record new_stamp attempt event_id event due
if not status then return {'unknown', ''} end
if status == 'queued' and stamp == ARGV[5] then return {'done', ''} end
if not lives then return {'ended', ''} end
if status ~= 'running' then return {'lost', ''} end
if ARGV[2] ~= '' then
  if holder ~= ARGV[2] then return {'lost', ''} end
elseif stamp ~= ARGV[3] or redis.call('EXISTS', lease) == 1 then
  return {'changed', ''}
end
redis.call('DEL', lease)
redis.call('HSET', job, 'record', ARGV[4], 'stamp', ARGV[5], 'holder', '')
if ARGV[9] ~= '' then redis.call('ZADD', jobs .. ':due', ARGV[9], id) end
set_status('queued')
into_queue_head()
event(ARGV[7], ARGV[8])
return {'done', ''}
