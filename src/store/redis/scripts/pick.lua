-- Takes one id out of the queue, wherever it stands there, as a pop would. KEYS: queue running. ARGV: id
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
