-- Redis follows the outcome; anybody may say so. KEYS[8]: the session's key, or the job's again.
-- ARGV: id status record attempt created leaves_at ttl_ms new_stamp event_id event events_ttl_ms set
-- Said again by the same caller, it is done: the first answer may have been lost.
if status and not lives then into_none() return {stamp == ARGV[8] and 'done' or 'ended', ''} end
if not status then
  created, set = ARGV[5], ARGV[12]
  redis.call('ZADD', jobs, created, id)
  redis.call('ZADD', jobs .. ':ids', 0, id)
end
redis.call('HSET', job, 'record', ARGV[3], 'attempt', ARGV[4], 'holder', '', 'stamp', ARGV[8], 'created', created,
  'set', set)
redis.call('HDEL', job, 'outcome')
redis.call('ZREM', jobs .. ':due', id)
local was = status
set_status(ARGV[2])
redis.call('DEL', lease)
redis.call('LREM', running, 0, id)
if was ~= 'running' and was ~= 'sealed' then redis.call('LREM', queue, 0, id) end
redis.call('ZADD', jobs .. ':over', ARGV[6], id)
event(ARGV[9], ARGV[10])
redis.call('PEXPIRE', job, ARGV[7])
redis.call('PEXPIRE', events, ARGV[11])
if KEYS[8] ~= job then redis.call('SET', KEYS[8], id, 'PX', ARGV[7]) end
return {'done', ''}
