/* A key that is unique while its item is pending.

Producers push with one key. A consumer settles, retries, crashes, or is paused until its lease has
ended. The key is a part of the steps that push, replace and settle, each fenced by the token of the
lease.

OLD adds consumers that know no keys: they end an item and leave its record behind. A producer that
meets a held key then looks at one place after another, in the order in which an item passes them,
and takes the key if the item is nowhere and the record is still the same. Each step that puts an
item back changes the record.

Holds: there is never more than one item of the key. An item has its key as long as it lives, and
without OLD nothing else has it. A duplicate is told only while an item is there.

Planted bugs: UNFENCED frees the key also when the settlement was refused. APART takes the key in a
step before the push. NO_COMPARISON takes the key of a missing item whatever the record is by now.
SAME_RECORD puts an item back without changing the record. */

#define CALLS 3
#ifdef OLD
#define LEASE_ENDS 1
#define TOKENS 3
#else
#define LEASE_ENDS 2
#define TOKENS 4
#endif

mtype = { nowhere, delayed, queued, held, held_by_old };

mtype where = nowhere;
byte live;             /* items in any place */
bool key;              /* somebody is recorded as the holder */
byte record;           /* which record it is */
byte token, lease_ends, calls;

inline take() { key = true; record++ }
inline push() { live++; where = queued }
inline put_back(place) {
    where = place;
#ifndef SAME_RECORD
    record++
#else
    skip
#endif
}

active [2] proctype Producer() {
    byte seen;
end:
    do
    :: calls < CALLS ->
           calls++;
again:
#ifdef APART
           atomic { if :: key -> goto next :: else -> take() fi };
           if :: goto crash :: true fi;
           atomic { push() };
#else
           atomic {
               if
               :: !key -> take(); push(); goto next
#ifdef OLD
               :: else -> seen = record
#else
               :: else -> assert(live == 1)  /* the receipt says: duplicate */
#endif
               fi
           };
#ifdef OLD
           atomic { if :: where == delayed -> assert(live == 1); goto next :: else -> skip fi };
           atomic { if :: where == queued -> assert(live == 1); goto next :: else -> skip fi };
           atomic {
               if
               :: where == held || where == held_by_old -> assert(live == 1); goto next
               :: else -> skip
               fi
           };
           atomic {
               if
#ifdef NO_COMPARISON
               :: true -> take(); push()
#else
               :: key && record == seen -> take(); push()
               :: else -> goto again
#endif
               fi
           };
#endif
#endif
next:      skip
    :: calls >= CALLS -> break
    od;
crash: skip
}

active proctype Delay() {
end:
    do
    :: atomic { where == delayed -> where = queued }
    od
}

active [2] proctype Consumer() {
    byte mine;
wait:
end:
    atomic { where == queued && token < TOKENS -> where = held; token++; mine = token };
    if
    :: atomic {  /* completed, expired or in the error queue */
           true;
           if
           :: where == held && token == mine -> where = nowhere; live--; key = false
           :: else ->
#ifdef UNFENCED
               key = false
#else
               skip
#endif
           fi
       }
    :: atomic {  /* retried: the copy and its original are one step, and the key goes on */
           true;
           if
           :: where == held && token == mine -> put_back(delayed)
           :: else -> skip
           fi
       }
    :: true  /* crashed */
    fi;
    goto wait
}

#ifdef OLD
active proctype OldConsumer() {
end:
    do
    :: atomic { where == queued -> where = held_by_old };
       atomic { where = nowhere; live-- }
    od
}
#endif

active proctype Leases() {
end:
    do
    :: atomic { lease_ends < LEASE_ENDS && where == held -> put_back(queued); lease_ends++ }
    :: lease_ends == LEASE_ENDS -> break
    od
}

ltl one_item { [] (live <= 1) }
ltl item_has_its_key { [] (live >= 1 -> key) }
ltl key_is_the_items { [] (key == (live == 1)) }
