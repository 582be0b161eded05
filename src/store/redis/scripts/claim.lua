-- After the pop. ARGV: id token stamp record attempt lease_ms new_stamp event
if not status then return {'unknown', 0} end
if status == 'running' and holder == ARGV[2] and redis.call('GET', lease) == ARGV[2] then
  return {'done', redis.call('XLEN', events)}
end
if not lives then into_none() return {'ended', 0} end
if status ~= 'queued' then into_running() return {'lost', 0} end
if stamp ~= ARGV[3] then return {'changed', 0} end
if not redis.call('LPOS', running, id) then return {'lost', 0} end
into_running()
redis.call('HSET', job, 'record', ARGV[4], 'attempt', ARGV[5], 'holder', ARGV[2], 'stamp', ARGV[7])
redis.call('PERSIST', job)
redis.call('ZREM', jobs .. ':due', id)
set_status('running')
redis.call('SET', lease, ARGV[2], 'PX', ARGV[6])
event(ARGV[5] .. '-*', ARGV[8])
return {'done', redis.call('XLEN', events)}
