"""The official MCP SDK 2.x, and whatever is built on its session manager."""
