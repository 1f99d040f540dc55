/* Two ticks of a schedule, proposed by workers that crash and whose answers get lost.

The store admits a tick and pushes its item in one step; with TWO_STEPS, where the store is not the
queue's own, it reserves the tick, the worker pushes and confirms, and a reservation that was never
confirmed ends. The item's id is made from the tick.

Holds: in one step, no tick is pushed twice, whatever the number of workers; as long as one worker
lives, each is pushed. In two steps each is pushed, and a second push has the same id and needs a
worker that crashed or was away for longer than its reservation.

Planted bugs: READS_FIRST reads the last tick in one step and writes it in another; FORGETS counts a
tick as admitted as soon as it is reserved, so that a crash loses it. */

#define WORKERS 3
#define TICKS 2
#define CRASHES 1

byte last;               /* the last tick that was admitted */
byte reserved;           /* the tick under way; 0: none */
byte holder;             /* who reserved it */
byte pushes[TICKS + 1];
byte crashes, late;      /* reservations that ended while their worker was alive, or after its crash */
byte at_work = WORKERS;

active [WORKERS] proctype Worker() {
    byte seen;
    do
    :: last < TICKS ->
#ifdef TWO_STEPS
#ifdef FORGETS
           atomic { if :: last < TICKS -> last++; seen = last :: else -> goto again fi };
           if :: atomic { crashes < CRASHES -> crashes++; goto crash } :: true fi;
           atomic { pushes[seen]++ };
#else
           atomic {
               if
               :: last < TICKS && reserved == 0 -> reserved = last + 1; holder = _pid; seen = reserved
               :: else -> goto again
               fi
           };
           if :: atomic { crashes < CRASHES -> crashes++; goto crash } :: true fi;
           atomic { pushes[seen]++ };
           if :: atomic { crashes < CRASHES -> crashes++; goto crash } :: true fi;
           atomic { if :: reserved == seen && holder == _pid -> last = seen; reserved = 0 :: else fi };
#endif
#else
#ifdef READS_FIRST
           seen = last;
           atomic { if :: seen < TICKS -> last = seen + 1; pushes[seen + 1]++ :: else fi };
#else
           atomic { if :: last < TICKS -> last++; pushes[last]++ :: else fi };
#endif
           /* The answer got lost: the worker proposes again, like any other. */
           if :: atomic { crashes < CRASHES -> crashes++; goto crash } :: true fi;
#endif
again:     skip
    :: last == TICKS -> break
    od;
crash: at_work--
}

#ifdef TWO_STEPS
active proctype Reservations() {
end:
    do
    :: atomic { reserved != 0 && late < 2 -> reserved = 0; late++ }
    :: at_work == 0 -> break
    od
}
#endif

#ifdef TWO_STEPS
ltl each_once { [] (pushes[1] <= 1 + late && pushes[2] <= 1 + late) }
#else
ltl each_once { [] (pushes[1] <= 1 && pushes[2] <= 1) }
#endif
ltl none_is_lost { [] (last == TICKS && at_work == 0 -> pushes[1] >= 1 && pushes[2] >= 1) }
