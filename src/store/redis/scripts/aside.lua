-- Renames what stands where a job's record should be and is none, as it is. KEYS: job foreign jobs.
-- ARGV: the record as it was read ("" for a key of another type), id, how long it stays in ms
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
if kind == 'hash' and (ARGV[1] == '' or redis.call('HGET', KEYS[1], 'record') ~= ARGV[1]) then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
for _, status in ipairs({'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'}) do
  redis.pcall('ZREM', KEYS[3] .. ':' .. status, ARGV[2])
end
return 1
