-- Which of many jobs do not live any more: 1 for each that has ended or is not known. KEYS: job …
local answer = {}
for at = 1, #KEYS do
  local status = redis.pcall('HGET', KEYS[at], 'status')
  answer[at] = (status == 'queued' or status == 'running' or status == 'sealed') and 0 or 1
end
return answer
