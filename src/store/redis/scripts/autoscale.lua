-- A pod says how many jobs it runs, and learns how many pods of lower ordinals stand idle, and whether what it
-- said before was gone (then Redis was emptied). From what all pods said lately the length of `busy` is made anew:
-- the highest ordinal that runs something, and one.
-- KEYS: pods busy. ARGV: pod ordinal("" if none) running takes(0|1) counts(0|1) stays_ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = redis.pcall('HSET', KEYS[1], ARGV[1], table.concat({ARGV[2], ARGV[3], ARGV[4], ARGV[5], now}, ' '))
if type(told) == 'table' then
  -- Out of memory, say: what was known last holds on, or an autoscaler would remove pods that work.
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
  return redis.error_reply(told.err)
end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
local length, idle_below = 0, 0
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local ordinal, running, takes, counts, said = string.match(all[at + 1], '^(%d*) (%d+) (%d) (%d) (%d+)$')
  if not said or math.abs(now - said) > tonumber(ARGV[6]) then
    redis.call('HDEL', KEYS[1], all[at])
  elseif ordinal ~= '' and #ordinal <= 3 then
    if running ~= '0' and counts == '1' then length = math.max(length, ordinal + 1) end
    if running == '0' and takes == '1' and ARGV[2] ~= '' and tonumber(ordinal) < tonumber(ARGV[2]) then
      idle_below = idle_below + 1
    end
  end
end
local there = redis.call('LLEN', KEYS[2])
for _ = there + 1, length do redis.call('RPUSH', KEYS[2], '1') end
if there > length then redis.call('LTRIM', KEYS[2], 0, length - 1) end
if length == 0 then redis.call('DEL', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[6]) end
return {idle_below, told}
