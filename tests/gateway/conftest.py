from gateway_harness import gateway, head, start

__all__ = ["gateway", "head", "start"]
