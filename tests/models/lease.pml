/* Lease, settlement and reclaiming of one call.

A consumer may crash or pause after each step: any number of steps of the others may come between
two of its own. Time is not modelled, so a lease may end at any moment, at most LEASE_ENDS times.
With TWO_STEPS a retry is a push of the copy and then a completion, as on SQS; without, one step.

Holds in every state: the call is queued, in flight, completed or in the error queue; only the
holder of the current lease settles an item; no item is settled twice.

Planted bugs: NO_FENCE settles without the token, COMPLETES_FIRST completes before it pushes. */

#define SLOTS 5        /* items: the original and its retry copies, duplicates included */
#define ATTEMPTS 2     /* the most attempts of the call */
#define LEASE_ENDS 2
#define CRASHES 1

mtype = { absent, available, in_flight, settled };

mtype where[SLOTS] = absent;
byte attempt[SLOTS];
byte lease[SLOTS];     /* token of the delivery that holds the item; 0: nobody */
byte items, deliveries, lease_ends, crashes;
byte alive, ended;     /* items queued or in flight; runs completed and errors kept */

inline push(number) {
    assert(items < SLOTS);
    where[items] = available; attempt[items] = number; items++; alive++
}

#ifdef NO_FENCE
#define HOLDS (where[item] == in_flight)
#else
#define HOLDS (where[item] == in_flight && lease[item] == mine)
#endif

inline settle() {
    assert(lease[item] == mine);
    where[item] = settled; lease[item] = 0; alive--
}

proctype Consumer() {
    byte item, mine;
wait:
end:
    atomic {
        if  /* pop */
        :: where[0] == available -> item = 0
        :: where[1] == available -> item = 1
        :: where[2] == available -> item = 2
        :: where[3] == available -> item = 3
        :: where[4] == available -> item = 4
        fi;
        deliveries++; mine = deliveries; where[item] = in_flight; lease[item] = mine
    }
    if
    :: atomic { crashes < CRASHES -> crashes++ }; goto wait  /* and another one starts */
    :: goto complete
    :: attempt[item] < ATTEMPTS -> goto retry
    :: attempt[item] == ATTEMPTS -> goto bury
    :: atomic {  /* release: a worker that stops */
           deliveries < 4;
           if :: HOLDS -> assert(lease[item] == mine); where[item] = available; lease[item] = 0
           :: else fi
       }; goto wait
    fi;
complete:
    atomic { if :: HOLDS -> ended++; settle() :: else fi }; goto wait;
bury:
    atomic { if :: HOLDS -> ended++; settle() :: else fi }; goto wait;
retry:
#ifdef TWO_STEPS
#ifdef COMPLETES_FIRST
    atomic { if :: HOLDS -> settle() :: else -> goto wait fi };
    if :: atomic { crashes < CRASHES -> crashes++ }; goto wait :: true fi;
    atomic { push(attempt[item] + 1) }
#else
    atomic { push(attempt[item] + 1) };
    if :: atomic { crashes < CRASHES -> crashes++ }; goto wait :: true fi;
    atomic { if :: HOLDS -> settle() :: else fi }
#endif
#else
    atomic { if :: HOLDS -> push(attempt[item] + 1); settle() :: else fi }
#endif
    goto wait
}

active proctype Broker() {
    byte which;
end:
    do
    :: atomic {
           lease_ends < LEASE_ENDS;
           select (which : 0 .. SLOTS - 1);
           if
           :: where[which] == in_flight -> where[which] = available; lease[which] = 0; lease_ends++
           :: else
           fi
       }
    :: lease_ends == LEASE_ENDS -> break
    od
}

init { atomic { push(1); run Consumer(); run Consumer() } }

ltl nothing_is_lost { [] (items == 0 || alive + ended >= 1) }
