-- The entry that stands where an item was cancelled; see GAP in dockets/_wire.py. In one piece, so
-- that no call has to make it.

local GAP = '{"gap":1,"first_ts":0,"ts":0,"item":{"id":"gap","method":"N.","args":"(t.","kwargs":"(t.","error_classes":"N.","group":null,"attempts":0,"max_attempts":1,"metadata":{},"ttl_seconds":1,"item_queued_timestamp":0},"v":1,"ttl":null,"attempts":0,"max_attempts":3,"error_classes":"N."}'
