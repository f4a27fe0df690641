"""Everything that imports mlx: load, cut, run, sample. Bytes and ints go in and come out.

Nothing here knows gRPC or asyncio's services: the engine could move to a process of its own.
"""
