-- Renews locks whose value is still ours (ARGV[1] > 0, in ms), or releases them (0). KEYS: lock …
-- ARGV: ms token token …
local answer = {}
for at = 1, #KEYS do
  local ours = redis.call('GET', KEYS[at]) == ARGV[at + 1]
  if ours and ARGV[1] == '0' then redis.call('DEL', KEYS[at])
  elseif ours then redis.call('PEXPIRE', KEYS[at], ARGV[1]) end
  answer[at] = ours and 1 or 0
end
return answer
