"""How things are timed: who takes part, a process for each, interleaved rounds, and the machine's own limits."""
