#!/usr/bin/env python3
"""An OpenTelemetry collector for the tests, as far as OTLP/HTTP JSON goes: `collector.py DIRECTORY`.

Prints its port. Each request it accepts is a line of DIRECTORY/requests, {"path", "type", "body"}; it answers with the status in DIRECTORY/status (200 without one)
and what DIRECTORY/answer has. It ends with its stdin.
"""
import http.server, json, os, sys, threading

folder = sys.argv[1]
lock = threading.Lock()


class Collector(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        try:
            with open(os.path.join(folder, "status")) as file:
                status = int(file.read())
        except FileNotFoundError:
            status = 200
        if status == 200:
            with lock, open(os.path.join(folder, "requests"), "a") as file:
                file.write(json.dumps({"path": self.path, "type": self.headers.get("Content-Type"), "body": body}) + "\n")
        try:
            with open(os.path.join(folder, "answer"), "rb") as file:
                answer = file.read()
        except FileNotFoundError:
            answer = b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
