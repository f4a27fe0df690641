"""gRPC servicers: thin, they translate and call."""
