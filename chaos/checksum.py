"""What server and clients agree on."""

import hashlib


def checksum(mark: str, events: int) -> str:
    """What a call that counts answers: nobody knows it who does not know how many messages there were."""
    return hashlib.sha256("".join(f"{mark}:{n};" for n in range(1, events + 1)).encode()).hexdigest()[:16]
