"""The head of a pipeline: prompts, sequences, scheduling, the ring, and what comes out of it."""
