"""A server of Google's storage on this machine (gcp-storage-emulator), behind a proxy that fails some of its requests.

The emulator takes no notice of preconditions, lists all in one page and cancels no upload: the proxy does as Google's
pages describe it, https://cloud.google.com/storage/docs/request-preconditions, /json_api/v1/objects/list and
/performing-resumable-uploads. A POST that says ``ifGenerationMatch=0`` is counted as ``new``, and is answered by 412
where there is such an object; nothing comes between.
"""

import json
import logging
import threading
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, urlsplit

from failing import Proxy, environment
from gcp_storage_emulator.server import create_server
from gcsfs.core import GCSFileSystem

PAGE = 7
"""Entries of a page of a list."""
LIST = "/storage/v1/b/bucket/o"


class Google(Proxy):
    root, sent = "gs://bucket", "POST"

    def __init__(self, port, share, seed):
        super().__init__(port, share, seed)
        self.one = threading.Lock()

    def pass_on(self, method, path, body=b"", headers=()):
        with self.one:
            address = urlsplit(path)
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            if method == "POST" and asked.get("ifGenerationMatch") == "0":
                self.counts["new"] += 1
                name = asked.get("name") or json.loads(body.split(b"\n\n")[1].split(b"\n--")[0])["name"]
                if super().pass_on("GET", f"{LIST}/{quote(name, safe='')}")[0] == 200:
                    return 412, {}, b"{}", None
            if method == "DELETE" and "upload_id" in asked:
                return 499, {}, b"", None
            status, said, found, length = super().pass_on(method, path, body, headers)
        if method == "GET" and address.path == LIST and status == 200:
            found, length = json.dumps(_page(json.loads(found), asked)).encode(), None
        return status, said, found, length

    def objects(self, prefix):
        """What the server holds below a prefix."""
        ask, held = super().pass_on, {}
        for one in json.loads(ask("GET", f"{LIST}?prefix={prefix}/")[2])["items"]:
            held[one["name"].removeprefix(f"{prefix}/")] = ask("GET", f"/bucket/{quote(one['name'])}")[2]
        return held

    def mark(self, folder):
        """The empty object that some tools put where a folder would be."""
        body = f'--m\n\n{{"name": "{folder}/"}}\n--m\n\n\n--m--'.encode()
        headers = {"Content-Type": "multipart/related; boundary=m"}
        assert super().pass_on("POST", f"/upload{LIST}?uploadType=multipart", body, headers)[0] == 200

    def unfinished(self):
        """Nothing of an upload is seen before its end."""
        return []


def _page(found, asked):
    """The entries of a whole list that one answer has."""
    items = [(item["name"], "items", item) for item in found["items"]]
    entries = sorted([*items, *((name, "prefixes", name) for name in found["prefixes"])])
    first, most = int(asked.get("pageToken", 0)), min(int(asked.get("maxResults", PAGE)), PAGE)
    some = entries[first : first + most]
    page = {kind: [entry for _, of, entry in some if of == kind] for kind in ("prefixes", "items")}
    more = {"nextPageToken": str(first + most)} if first + most < len(entries) else {}
    return {"kind": found["kind"], **page, **more}


@contextmanager
def gs_server(share=0.0, seed=0):
    """The proxy before a new server with the bucket ``bucket``; the environment says where it is."""
    GCSFileSystem.clear_instance_cache()  # which know another server
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    proxy = Google(server._api._httpd.server_port, share, seed)
    try:
        with environment(STORAGE_EMULATOR_HOST=proxy.address), proxy.serving():
            yield proxy
    finally:
        server.stop()
