"""An S3 server on this machine (moto), behind a proxy that fails some of its requests."""

import logging
from contextlib import contextmanager
from urllib.request import Request, urlopen

import boto3
from failing import Proxy, environment
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

TOLD = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "MOTO_S3_DEFAULT_MAX_KEYS": "7",  # a page of a list
}


class Amazon(Proxy):
    root, sent = "s3://bucket", "PUT"

    @property
    def client(self):
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.behind}")

    def objects(self, prefix):
        """What the server holds below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=f"{prefix}/")
        names = [found["Key"] for page in pages for found in page.get("Contents", ())]
        client = self.client
        return {n.removeprefix(f"{prefix}/"): client.get_object(Bucket="bucket", Key=n)["Body"].read() for n in names}

    def mark(self, folder):
        """The empty object that some tools put where a folder would be."""
        self.client.put_object(Bucket="bucket", Key=f"{folder}/")

    def unfinished(self):
        """Uploads in parts that nobody has ended."""
        return self.client.list_multipart_uploads(Bucket="bucket").get("Uploads", [])


@contextmanager
def s3_server(share=0.0, seed=0):
    """The proxy before a new server with the bucket ``bucket``; the environment says where it is."""
    S3FileSystem.clear_instance_cache()  # which know another server
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with environment(**TOLD):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        port = server.get_host_and_port()[1]
        try:
            urlopen(Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()  # what another one held
            proxy = Amazon(port, share, seed)
            proxy.client.create_bucket(Bucket="bucket")
            with environment(AWS_ENDPOINT_URL=proxy.address), proxy.serving():
                yield proxy
        finally:
            server.stop()
