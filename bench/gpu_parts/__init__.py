"""The parts of `bench/gpu.py`: each section runs in a process of its own and writes what it found after every step."""
