"""What every part of Tandem may import: the schema, RPC options, settings, errors, discovery."""

import os

# gRPC's core, which reads this when it is imported, writes lines of its own to stderr about what it also reports as
# errors to the program. Whoever wants them sets it: error, info, debug.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
