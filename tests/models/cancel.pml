/* Cancelling a call against a delay that ends and a consumer that pops.

The one who cancels looks for the item in as many steps as it wants; a delayed item may become
available between two of them. What it answers is decided in one last step.

Holds: a call that was answered `cancelled` never starts afterwards; one that was answered `running`
or `ended` had been popped.

Planted bugs: LOOKS_ONLY answers from what it saw in two separate looks; MARKS_ONLY sets a mark that
consumers read before, not in, their pop. */

mtype = { delayed, available, in_flight, gone };
mtype = { unanswered, cancelled, running, ended };

mtype where = delayed;
mtype answer = unanswered;
bool popped, started_after_cancel, marked;

active proctype Delay() { atomic { if :: where == delayed -> where = available :: else fi } }

active [2] proctype Consumer() {
    bool seen_mark;
end:
    do
#ifdef MARKS_ONLY
    :: where == available -> seen_mark = marked;
       if
       :: seen_mark -> atomic { if :: where == available -> where = gone :: else fi }
       :: else -> atomic {
              if
              :: where == available ->
                     where = in_flight; popped = true; started_after_cancel = (answer == cancelled)
              :: else -> goto next
              fi
          }
       fi;
#else
    :: atomic {
           where == available ->
               where = in_flight; popped = true; started_after_cancel = (answer == cancelled)
       };
#endif
       if
       :: atomic { where == in_flight -> where = gone }           /* completed or buried */
       :: atomic { where == in_flight -> where = delayed }; break  /* retried; popped once is enough */
       :: where == gone -> break
       fi;
next:  skip
    od
}

active proctype Canceller() {
#ifdef LOOKS_ONLY
    if
    :: where == available -> atomic { if :: where == available -> where = gone; answer = cancelled
                                      :: else -> answer = running fi }
    :: where != available ->
           if
           :: atomic { where == delayed -> where = gone; answer = cancelled }
           :: where != delayed -> answer = ended
           fi
    fi
#else
#ifdef MARKS_ONLY
    atomic { marked = true; if :: where == delayed || where == available -> answer = cancelled
                            :: where == in_flight -> answer = running
                            :: else -> answer = ended fi }
#else
    skip;  /* looks for it */
    atomic {
        if
        :: where == delayed || where == available -> where = gone; answer = cancelled
        :: where == in_flight -> answer = running
        :: where == gone -> answer = ended
        fi
    }
#endif
#endif
}

ltl cancelled_never_starts { [] !started_after_cancel }
ltl too_late_means_popped { [] ((answer == running || answer == ended) -> popped) }
