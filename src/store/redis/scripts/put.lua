-- A job that Redis does not know: submitted just now, or put back from its file.
-- ARGV: id status record attempt holder stamp created end(tail|head) due set pod
if status then return {status, ''} end
created, set = ARGV[7], ARGV[10]
go_to_line_of(ARGV[11])
redis.call('HSET', job, 'record', ARGV[3], 'attempt', ARGV[4], 'holder', ARGV[5], 'stamp', ARGV[6], 'created', created,
  'set', set, 'pod', pod)
redis.call('ZADD', jobs, created, id)
redis.call('ZADD', jobs .. ':ids', 0, id)
if ARGV[9] ~= '' then redis.call('ZADD', jobs .. ':due', ARGV[9], id) end
set_status(ARGV[2])
if ARGV[2] == 'running' then into_running()
elseif ARGV[8] == 'tail' then redis.call('LPUSH', queue, id)
else into_queue_head() end
return {'done', ''}
