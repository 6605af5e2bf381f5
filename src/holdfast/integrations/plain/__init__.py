"""Sessions without MCP: server-sent events, WebSockets or queues in any ASGI application."""
