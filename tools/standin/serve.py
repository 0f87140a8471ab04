"""Serves moto's DynamoDB, SQS and KMS on 127.0.0.1, for tests.

    serve.py [--dynamodb PORT] [--sqs PORT] [--kms PORT]                 serve until told to end
    serve.py [--dynamodb PORT] [--sqs PORT] [--kms PORT] -- COMMAND...   serve while COMMAND runs

A port of 0 (the default) takes a free one. Alone, it prints one line of JSON
when all servers answer, {"dynamodb": "http://...", "sqs": "http://...", "kms":
"http://..."}, and ends on SIGINT or SIGTERM. With a command it prints nothing,
gives the command the endpoints in its environment, and ends with the command's
exit code.
What is stored lives in this process's memory and ends with it.
"""

import argparse
import functools
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    create_backend_app,
)
from moto.sqs import models as sqs_models
from werkzeug.serving import WSGIRequestHandler, make_server

HOST = "127.0.0.1"
ENDPOINTS = {
    "dynamodb": "EVENTHOOKS_TEST_DYNAMODB_ENDPOINT",
    "sqs": "EVENTHOOKS_TEST_SQS_ENDPOINT",
    "kms": "EVENTHOOKS_TEST_KMS_ENDPOINT",
}


class Serial:
    """Lets one request at a time into an application.

    moto checks a condition and writes in two steps that nothing holds
    together, so that of two conditional writes at once both may succeed. A
    server without threads would do as well, were it not for a connection that
    is opened and stays silent, as Go's HTTP client leaves one when a request
    is cancelled: it would keep everyone out. So the waiting is here, where a
    request has been read whole.
    """

    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with self.lock:
            answer = self.app(environ, start_response)
            try:
                return list(answer)
            finally:
                if hasattr(answer, "close"):
                    answer.close()


def guard_queues():
    """Makes each call on a queue of moto's a step of its own.

    Threads of moto's change a queue's list of messages together: a delete drops
    what is sent meanwhile, two receives take one message, and a message that
    another thread has just deleted is an error. All of it happens under the
    queue's own lock here, which a receive that waits lets go of (a Condition
    releases its lock however often it was taken).
    """
    for name in "send_message", "receive_message", "delete_message", "change_message_visibility":
        def guard(method):
            @functools.wraps(method)
            def guarded(self, queue_name, *args, **kwargs):
                with self.get_queue(queue_name)._messages_lock:
                    return method(self, queue_name, *args, **kwargs)
            return guarded
        setattr(sqs_models.SQSBackend, name, guard(getattr(sqs_models.SQSBackend, name)))


class Handler(WSGIRequestHandler):
    """Writes no line per request, and waits no longer than a minute for one."""

    timeout = 60

    def log_request(self, code="-", size="-"):
        pass


def serve(name, port):
    app = DomainDispatcherApplication(create_backend_app)
    if name == "dynamodb":
        app = Serial(app)
    server = make_server(HOST, port, app, threaded=True, request_handler=Handler)
    server.daemon_threads = True  # a request in flight does not keep us here
    server.request_queue_size = 128
    server.socket.listen(128)
    threading.Thread(target=server.serve_forever, name=name, daemon=True).start()
    return f"http://{HOST}:{server.port}"


def run(command, environ):
    """Runs a command to its end and returns its exit code, as a shell would."""
    # Ctrl-C reaches the command by itself: it is in the same process group. A
    # handler that does nothing, because the command would inherit SIG_IGN.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        child = subprocess.Popen(command, env=environ)
    except OSError as e:
        print(f"standin: {command[0]}: {e.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return code if code >= 0 else 128 - code


def main():
    # The command is cut off by hand: argparse would look for our own options in it.
    args, command = sys.argv[1:], []
    if "--" in args:
        cut = args.index("--")
        args, command = args[:cut], args[cut + 1 :]
        if not command:
            sys.exit("serve.py: no command after --")
    parser = argparse.ArgumentParser(usage=__doc__)
    for name in ENDPOINTS:
        parser.add_argument(f"--{name}", type=int, default=0)
    ports = vars(parser.parse_args(args))

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    ending = {signal.SIGINT, signal.SIGTERM}
    if not command:
        # Before there are threads, which inherit it: only sigwait takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    guard_queues()
    endpoints = {name: serve(name, ports[name]) for name in ENDPOINTS}
    if command:
        environ = os.environ | {ENDPOINTS[name]: url for name, url in endpoints.items()}
        return run(command, environ)

    print(json.dumps(endpoints), flush=True)
    signal.sigwait(ending)
    return 0


if __name__ == "__main__":
    sys.exit(main())
