-- After the pop. ARGV: id token stamp record attempt lease_ms new_stamp event_id event keep_from
if not status then return {'unknown', ''} end
if status == 'running' and holder == ARGV[2] and redis.pcall('GET', lease) == ARGV[2] then return {'done', ''} end
if not lives then into_none() return {'ended', ''} end
if status ~= 'queued' then into_running() return {'lost', ''} end
if stamp ~= ARGV[3] then return {'changed', ''} end
if not redis.call('LPOS', running, id) then return {'lost', ''} end
into_running()
redis.call('HSET', job, 'record', ARGV[4], 'attempt', ARGV[5], 'holder', ARGV[2], 'stamp', ARGV[7])
redis.call('PERSIST', job)
redis.call('ZREM', jobs .. ':due', id)
set_status('running')
redis.call('SET', lease, ARGV[2], 'PX', ARGV[6])
trim(ARGV[10])
event(ARGV[8], ARGV[9])
return {'done', ''}
