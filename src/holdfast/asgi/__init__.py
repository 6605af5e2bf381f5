"""The edge: bytes in, bytes out. Knows HTTP, SSE and JSON-RPC, but no store and no framework."""
