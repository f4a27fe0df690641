from link_harness import grpc_transport, transport

__all__ = ["grpc_transport", "transport"]
