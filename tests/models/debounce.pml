/* The window of a debounced call: three producers, one identity.

The item of a window waits, becomes available at some moment, and runs. In one step, the decision
and the push are one. With TWO_STEPS the window is reserved, the item pushed, the window confirmed
or, if the push failed, restored; a producer may crash after each step, and its reservation ends.

Holds: each call that returned is followed by a run that started after the call began; no two items
of the window wait, unless a producer crashed or was away for longer than its reservation.

Planted bugs: READS_FIRST reads the window in one step and writes it in another; MARK_STAYS keeps
the pending mark when the run has started, as the first library did; TRUSTS skips a call because of
a reservation whose push may still fail. */

#define CALLS 3

bool pending;         /* the window says that an item waits */
byte holder = 255;    /* whose push is still under way; 255: nobody's */
byte waiting;         /* items that wait */
bool begun[CALLS], returned[CALLS], served[CALLS];
byte ended;           /* reservations that ended without their producer */

active [CALLS] proctype Producer() {
    begun[_pid] = true;
#ifdef READS_FIRST
    bool seen = pending;
    atomic { if :: seen :: else -> pending = true; waiting++ fi };
#else
#ifdef TWO_STEPS
    atomic {
        if
#ifdef TRUSTS
        :: pending -> goto answered
#else
        :: pending && holder == 255 -> goto answered  /* otherwise it asks again later */
#endif
        :: !pending -> pending = true; holder = _pid
        fi
    };
    if
    :: waiting++                                                        /* pushed */
    :: atomic { if :: holder == _pid -> pending = false; holder = 255 :: else fi };
       goto raised                                                      /* the push failed */
    :: goto raised                                                      /* crashed */
    fi;
    if
    :: atomic { if :: holder == _pid -> holder = 255 :: else fi }       /* confirmed */
    :: goto raised                                                      /* crashed */
    fi;
#else
    atomic { if :: pending :: else -> pending = true; waiting++ fi };
#endif
#endif
answered:
    returned[_pid] = true;
raised: skip
}

active proctype Consumer() {
end:
    do
    :: atomic {  /* the item becomes available, and its run starts */
           waiting > 0 ->
               waiting--;
#ifndef MARK_STAYS
               pending = false; holder = 255;  /* the mark ends at the moment that it names */
#endif
               served[0] = served[0] || begun[0];
               served[1] = served[1] || begun[1];
               served[2] = served[2] || begun[2]
       }
#ifdef MARK_STAYS
    :: atomic { waiting == 0 && pending -> pending = false }
#endif
#ifdef TWO_STEPS
    :: atomic { holder != 255 -> holder = 255; pending = false; ended++ }
#endif
    od
}

ltl one_waits { [] (waiting <= 1 + ended) }
#define SERVED(i) (waiting == 0 && returned[i] -> served[i])
ltl the_last_update_runs { [] (SERVED(0) && SERVED(1) && SERVED(2)) }
