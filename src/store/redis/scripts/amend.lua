-- The record of a job that has ended says a little more; its outcome is the one that stands. ARGV: id record
if not status then return {'unknown', ''} end
if lives then return {'lost', ''} end
redis.call('HSET', job, 'record', ARGV[2])
return {'done', ''}
