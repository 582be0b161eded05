-- All leases of one pod in one round trip. KEYS: job lease, job lease, … ARGV: lease_ms token token …
local answer = {}
for at = 1, #KEYS / 2 do
  local job, lease, token = KEYS[2 * at - 1], KEYS[2 * at], ARGV[at + 1]
  -- A key of another type is as good as none, and costs the others nothing.
  local found = redis.pcall('HMGET', job, 'status', 'holder')
  local status, holder = found[1], found[2]
  if not status then answer[at] = 'unknown'
  elseif status ~= 'queued' and status ~= 'running' and status ~= 'sealed' then answer[at] = 'ended'
  elseif status == 'queued' or holder ~= token then answer[at] = 'lost'
  else
    local held = redis.pcall('GET', lease)
    if type(held) == 'table' then held = false end
    if held == token then redis.call('PEXPIRE', lease, ARGV[1]) answer[at] = 'held'
    elseif held then answer[at] = 'lost'
    else
      -- One that cannot be taken again (out of memory) costs the others nothing.
      local taken = redis.pcall('SET', lease, token, 'PX', ARGV[1])
      answer[at] = taken.err and 'unleased' or 'held'
    end
  end
end
return answer
