# An HTTP/2 client: requests one after the other, then twenty at once.
import asyncio, sys, httpx

base = sys.argv[1]
with httpx.Client(http2=True) as c:
    r = c.get(base + "/bytes/70000")
    assert r.http_version == "HTTP/2" and len(r.content) == 70000, r
    assert c.post(base + "/echo", content=b"x" * 30000).content == b"x" * 30000
    assert "fox" in c.get(base + "/gzip").text
    with c.stream("GET", base + "/sse/5") as r:
        assert sum(1 for l in r.iter_lines() if l.startswith("data:")) == 5


async def many():
    async with httpx.AsyncClient(http2=True) as c:
        rs = await asyncio.gather(*[c.get(base + "/bytes/%d" % (i * 3000)) for i in range(20)])
        assert [len(r.content) for r in rs] == [i * 3000 for i in range(20)]


asyncio.run(many())
