"""Serves a JSON document with FastAPI, from Python objects. The arguments are the document's path and the
port."""

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI


def main() -> None:
    document = json.loads(Path(sys.argv[1]).read_text())
    app = FastAPI()

    @app.get("/events")
    async def events() -> Any:
        return document

    uvicorn.run(
        app, port=int(sys.argv[2]), loop="uvloop", http="httptools", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
