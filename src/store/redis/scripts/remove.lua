-- An ended job is forgotten. ARGV: id
if lives then return {'lost', ''} end
redis.call('DEL', job, events, lease)
into_none()
redis.call('ZREM', jobs, id)
for _, set in ipairs({'ids', 'over', 'due', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired',
  'plans', 'worktrees'}) do
  redis.call('ZREM', jobs .. ':' .. set, id)
end
return {'done', ''}
