"""The chaos rig: real replicas that are killed, paused and replaced under clients that count everything."""
