"""A server that tells tokens as vLLM does."""

from aiohttp import web
from aiohttp.test_utils import TestServer

from planner.ir.values import Json

METRICS = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",engine="0",num_gpu_blocks="136"} 1.0
"""


class TokenServer:
    """A server with a token for each character; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Json] = []
        self.metrics = METRICS
        self.answer: Json = None
        self.status = 200
        app = web.Application()
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_get("/metrics", self._metrics)
        self.http = TestServer(app)

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        text = "".join(message["content"] for message in body["messages"])
        return web.json_response(
            self.answer or {"tokens": list(map(ord, text)), "count": len(text)}, status=self.status
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.metrics)
