"""The daemon on one machine: finds the others, holds its layers, computes, and as head of a pipeline serves it."""
