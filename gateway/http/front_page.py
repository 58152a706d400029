"""The page at `/`, for people who open the gateway in a browser. It needs no key, and says nothing about this
home."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Lares</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 42em; margin: 3em auto }</style>
<h1>Lares</h1>
<p>This is the gateway of Lares, the home-security intelligence backend. It is made for programs.</p>
<ul>
<li><a href="/graphql"><code>/graphql</code></a>: GraphQL, by POST; subscriptions by WebSocket
(<code>graphql-transport-ws</code>)</li>
<li><code>/media/{id}</code> and <code>/media/{id}/thumbnail</code>: photos, and thumbnails with boxes</li>
<li><a href="/health"><code>/health</code></a>: whether the gateway is alive; no key needed</li>
<li><a href="/ready"><code>/ready</code></a>: whether everything that it needs is ready; no key needed</li>
<li><a href="/metrics"><code>/metrics</code></a>: metrics for Prometheus</li>
</ul>
<p>All but this page, <code>/health</code> and <code>/ready</code> need an API key, in the header
<code>x-api-key</code> or as <code>authorization: Bearer</code>. The first one is in
<code>admin.key</code> in the home of Lares; <code>lares keys create NAME</code> makes others.</p>
</html>
"""
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "cache-control": "public, max-age=3600",
}


async def front_page(_: Request) -> Response:
    return HTMLResponse(PAGE, headers=HEADERS)
