-- Removes a key that still has this value. KEYS: key. ARGV: value
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
