# A WebSocket client: texts and bytes of several sizes, a ping, a close.
import asyncio, sys, websockets


async def talk(uri, compression):
    async with websockets.connect(uri, compression=compression, max_size=None) as ws:
        for m in ["", "hello", "river stone " * 20000, b"\x00\xff" * 500, "caf\u00e9 \u2603"]:
            await ws.send(m)
            assert await ws.recv() == m
        await (await ws.ping(b"are you there"))
        await ws.send(["in ", "three ", "fragments"])
        assert await ws.recv() == "in three fragments"


asyncio.run(talk(sys.argv[1] + "/ws", "deflate"))
asyncio.run(talk(sys.argv[1] + "/ws/plain", None))
asyncio.run(talk(sys.argv[1] + "/ws/fresh", "deflate"))
