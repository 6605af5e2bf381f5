"""The envelope of payloads: any setting reads any other, and what is damaged is said, not invented."""

import base64
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.backends.envelope import Codec, KeyRing
from holdfast.backends.envelope.codec import DamagedPayload, Purpose
from holdfast.backends.envelope.compression import LARGEST_BYTES, compress
from holdfast.errors import ConfigurationError, StoreRefused
from holdfast.testing.conformance.harness import PAYLOADS

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
HERE = Purpose("session", "stream 1")
LARGE = b'{"text":"' + b"the same again, " * 20_000 + b'"}'

CODECS = {
    "plain": Codec(compress_from_bytes=None),
    "compressed": Codec(),
    "all compressed": Codec(compress_from_bytes=0),
    "encrypted": Codec(compress_from_bytes=None, keys=KeyRing({"old": OLD})),
    "encrypted anew": Codec(keys=KeyRing({"new": NEW, "old": OLD})),
}
READER = Codec(keys=KeyRing({"new": NEW, "old": OLD}))


@pytest.mark.parametrize("payload", [*PAYLOADS, LARGE, b"\xf5", b"\xf5\x01z", b"\xf5\x01e\x03old"], ids=len)
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_what_one_setting_wrote_another_reads(codec: Codec, payload: bytes) -> None:
    assert await READER.unwrap(await codec.wrap(payload, HERE), HERE) == payload


async def test_a_small_payload_is_stored_as_it_is() -> None:
    payload = b'{"jsonrpc":"2.0","method":"x"}'
    assert await Codec().wrap(payload, HERE) is payload


async def test_a_large_payload_becomes_smaller() -> None:
    assert len(await Codec().wrap(LARGE, HERE)) < len(LARGE) / 100


async def test_what_does_not_become_smaller_is_stored_as_it_is() -> None:
    noise = b"{" + secrets.token_bytes(8192)
    assert await Codec().wrap(noise, HERE) is noise


async def test_an_encrypted_payload_says_nothing() -> None:
    stored = await CODECS["encrypted"].wrap(b"secret of the client", HERE)
    assert b"secret" not in stored
    assert stored != await CODECS["encrypted"].wrap(b"secret of the client", HERE)


async def test_what_a_store_compares_is_repeatable_and_differs_with_its_content() -> None:
    codec = CODECS["encrypted"]
    one, again, other = [await codec.wrap(payload, HERE, repeatable=True) for payload in (b"a", b"a", b"b")]
    assert one == again != other
    assert await READER.unwrap(one, HERE) == b"a"


@pytest.mark.parametrize("elsewhere", [Purpose("session", "stream 2"), Purpose("other", "stream 1")], ids=str)
async def test_an_encrypted_payload_opens_only_where_it_belongs(elsewhere: Purpose) -> None:
    stored = await CODECS["encrypted"].wrap(b"x", HERE)
    with pytest.raises(DamagedPayload, match="does not belong"):
        await READER.unwrap(stored, elsewhere)


async def test_a_key_that_is_not_there_is_named() -> None:
    stored = await CODECS["encrypted"].wrap(b"x", HERE)
    for codec in (Codec(), Codec(keys=KeyRing({"new": NEW}))):
        with pytest.raises(StoreRefused, match="'old'"):
            await codec.unwrap(stored, HERE)


async def test_a_newer_release_is_named() -> None:
    with pytest.raises(StoreRefused, match="newer release"):
        await READER.unwrap(b"\xf5\x02q...", HERE)


@pytest.mark.guarantee("G17")
@given(st.data())
async def test_every_flipped_bit_of_an_encrypted_payload_is_noticed(data: st.DataObject) -> None:
    stored = bytearray(await CODECS["encrypted"].wrap(b'{"a":1}', HERE))
    place = data.draw(st.integers(3, len(stored) - 1))
    stored[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((DamagedPayload, StoreRefused)):
        await READER.unwrap(bytes(stored), HERE)


@given(st.binary(max_size=200))
async def test_rubbish_behind_a_prefix_is_damaged_and_nothing_else(rubbish: bytes) -> None:
    for codec in b"ze":
        with pytest.raises((DamagedPayload, StoreRefused)):
            await READER.unwrap(bytes((0xF5, 1, codec)) + rubbish, HERE)


@pytest.mark.guarantee("G13")
async def test_a_frame_that_would_become_too_large_is_not_inflated() -> None:
    with pytest.raises(DamagedPayload):
        await READER.unwrap(b"\xf5\x01z" + compress(bytes(LARGEST_BYTES + 1)), HERE)


KEY = base64.b64encode(OLD).decode()


def test_keys_are_read_from_text_the_first_one_writing() -> None:
    ring = KeyRing.parse(f"new:{base64.b64encode(NEW).decode()}, old:{KEY}")
    assert ring.newest("s")[0] == "new"
    assert ring.find("old", "s") is not None
    assert ring.find("older", "s") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a part without ':'"),
        (KEY, "a part without ':'"),
        (f"a:{KEY},a:{KEY}", "an id twice"),
        ("a:%%%", "not base64"),
        (f"a:{KEY[:8]}", "'a' of 6 bytes"),
        (f"a b:{KEY}", "id is not like that"),
    ],
    ids=["empty", "no id", "twice", "not base64", "short", "bad id"],
)
def test_wrong_keys_are_refused_without_repeating_them(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"encryption keys: .*openssl rand -base64 32") as refused:
        KeyRing.parse(text)
    assert said in str(refused.value)
    assert KEY not in str(refused.value)


def test_a_ring_shows_no_key() -> None:
    ring = KeyRing({"old": OLD})
    assert repr(ring) == "KeyRing(old)"
    assert repr(OLD)[2:-1] not in f"{ring!r}{ring}"
