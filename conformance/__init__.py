"""Holds two replicas behind a per-request round robin against the official MCP conformance suite."""
