-- The outcome is decided; nothing but `close` comes after it. By the holder (token), or by anybody
-- for a job without a lease that has not changed since `stamp`. Where there is no second copy, a cancel
-- is decided here, whoever holds the job (token `!`).
-- ARGV: id token stamp outcome new_stamp
if not status then return {'unknown', ''} end
if status == 'sealed' then return {'sealed', redis.call('HGET', job, 'outcome')} end
if not lives then return {'ended', redis.call('HGET', job, 'record')} end
if ARGV[2] == '!' then
  -- nothing to be held against it
elseif ARGV[2] ~= '' then
  local why = refusal(ARGV[2])
  if why then return {why, ''} end
elseif stamp ~= ARGV[3] or redis.call('EXISTS', lease) == 1 then
  return {'changed', ''}
end
if status == 'queued' then redis.call('LREM', queue, 0, id) end
redis.call('HSET', job, 'outcome', ARGV[4], 'stamp', ARGV[5])
set_status('sealed')
into_running()
return {'sealed', ARGV[4]}
