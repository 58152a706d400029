"""Media that cameras push by HTTP: `POST` or `PUT /ingest/{camera}/...`, raw or in multipart forms.

It is a plain ASGI application, because a request is answered before its body has ended, each part of a form
while the next one is still to come, and nothing of it may be held in memory.
"""
