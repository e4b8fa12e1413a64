"""What is timed: networks and their data, single ops, whole programs; each with the answer that must come out."""
