-- The holder writes. An empty record or event: none. ARGV: id token record stamp event_id event keep_from
local why = refusal(ARGV[2])
if why then return {why, ''} end
if ARGV[3] ~= '' then redis.call('HSET', job, 'record', ARGV[3], 'stamp', ARGV[4]) end
trim(ARGV[7])
event(ARGV[5], ARGV[6])
return {'done', ''}
