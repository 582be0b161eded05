-- Before every script. KEYS: job queue running lease events jobs changes. ARGV[1]: id. What begins with
-- the name of `jobs` shares its slot. Each script leaves the id exactly once, in the list that its
-- status says: queued in queue, running or sealed in running, ended in none.
local job, queue, running, lease, events, jobs, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local id = ARGV[1]
local found = redis.call('HMGET', job, 'status', 'holder', 'stamp', 'created', 'set', 'pod')
local status, holder, stamp, created, set, pod = found[1], found[2], found[3], found[4], found[5] or '', found[6] or ''
-- A hash without a stamp is the Python program's, which names its keys alike: it is no job of ours.
if not stamp then status = false end
local lives = status == 'queued' or status == 'running' or status == 'sealed'

-- Sealed is nobody's business but the store's: it is listed as running.
local function shown(word)
  if word == 'sealed' then return 'running' end
  return word
end

-- A job that one pod alone may take waits in that pod's own line. What pods have one `jobs:pods` tells.
local function go_to_line_of(name)
  pod = name
  if pod ~= '' then
    queue = KEYS[2] .. ':' .. pod
    redis.call('SADD', jobs .. ':pods', pod)
  end
end
if status then go_to_line_of(pod) end

local function set_status(new)
  local is_new = not status or shown(status) ~= shown(new)
  if status and is_new then redis.call('ZREM', jobs .. ':' .. shown(status), id) end
  redis.call('ZADD', jobs .. ':' .. shown(new), created, id)
  -- Plans, or worktrees: a list of their own.
  local is_nothing = set == 'worktrees' and (new == 'failed' or new == 'cancelled' or new == 'expired')
  if is_nothing then redis.call('ZREM', jobs .. ':' .. set, id)
  elseif set ~= '' then redis.call('ZADD', jobs .. ':' .. set, created, id) end
  -- Those who watch hear of it; a Redis that is out of memory does not stop a job for that.
  if is_new then redis.pcall('XADD', changes, 'MAXLEN', '~', 4000, '*', 'id', id, 'status', shown(new)) end
  redis.call('HSET', job, 'status', new)
  status = new
end

local function into_running()
  redis.call('LREM', running, 0, id)
  redis.call('LPUSH', running, id)
end

local function into_queue_head()
  redis.call('LREM', running, 0, id)
  redis.call('LREM', queue, 0, id)
  redis.call('RPUSH', queue, id)
end

local function into_none()
  redis.call('LREM', running, 0, id)
  redis.call('LREM', queue, 0, id)
end

-- A repeated call meets its own event: Redis refuses the id, and that is well.
local function event(at, line)
  if line ~= '' then redis.pcall('XADD', events, at, 'e', line) end
end

local function trim(keep_from)
  if keep_from ~= '' then redis.pcall('XTRIM', events, 'MINID', keep_from) end
end

-- Why the attempt of this token may not write, or nil.
local function refusal(token)
  if not status then return 'unknown' end
  if not lives then return 'ended' end
  if status ~= 'running' or holder ~= token then return 'lost' end
  local held = redis.pcall('GET', lease)
  if type(held) ~= 'string' then return 'unleased' end
  if held ~= token then return 'lost' end
end
