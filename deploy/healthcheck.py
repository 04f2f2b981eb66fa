"""Exits 0 when the service in this container is ready, else 1 with what is missing."""

import http.client
import os
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["RELEVO_HTTP_PORT"]), timeout=3)
try:
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    text = answer.read().decode()
except OSError as error:
    sys.exit(str(error))
sys.exit(None if answer.status == http.client.OK else text)
