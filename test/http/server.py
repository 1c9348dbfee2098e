#!/usr/bin/env python3
"""A scripted HTTP server for the tests: what it answers, and how badly, is written in the request's path.

Started by a test as `server.py DIRECTORY`, or in a world of its own (see world.py) with --world: then it is reached under
every address, and serves names on 127.0.0.1:53. It prints one JSON line with its ports ("alone" is a second
"http", for requests that share no kept connection with others) and the file of its certificate authority, then obeys
commands on stdin, one a line, each answered by one JSON line. It ends with its stdin.

  hits NAME          how many requests came whose path's first word, or whose parameter tag, is NAME
  trapped            connections accepted by the trap, a listener on every address that nobody should reach
  h2 ACTION,ACTION   what the HTTP/2 server does with the next streams: 200, refuse, goaway, reset (then 200 again)
  dns NAME A,A|A     what the name server says of a name, one answer after the other (the last one repeats); of names that
                     start with "silent." it says nothing, and others don't exist
  connections        accepted by the plain HTTP server so far
  all PREFIX         hits of every name that starts with it, as one object
  asked NAME         the requests with that tag: [{"method", "target", "headers": {name in lower case: value}}]
  peak NAME          the highest number of requests with that tag at once
  aborted NAME       how many clients left /hold before they had an answer
  open NAME          lets /hold/NAME answer, now and later

Paths, most with parameters in the query:
  /status/CODE?type=T&body=B&retry_after=R   /sequence/NAME?codes=503,200 (the last one repeats)
  /echo              the request as JSON: method, target, headers, body, and which request of which connection it is
  /delay/MS   /first/NAME/MS (only the first request of that name is delayed)   /hold/NAME (until it is opened)   /drip?bytes=N&every=MS   /huge?bytes=N   /endless   /bytes?hex=…&type=T
  /redirect?to=URL&status=302   /loop
  /swallow           reads the request and resets          /half          resets in the middle of the body
  /headonly          a header that promises a body, then the end of the connection
  /stale             answers; the next request of the connection is read and then the connection is reset
  /hangup            answers, then closes without having said so
  /raw?hex=…         these bytes, then the end of the connection
"""
import asyncio
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import urllib.parse


class Faults(Exception):
    """The connection ends here, by a reset."""


hits = {}
counts = {"connections": 0, "trapped": 0}
sequences = {}
asked = {}      # by tag
under_way = {}
peaks = {}
aborted = {}
gates = {}
h2_script = []
names = {}


def reset(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answer(writer, status, body=b"", kind="application/json", extra=(), head=False):
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines += [f"{name}: {value}" for name, value in extra]
    writer.write("\r\n".join(lines + ["", ""]).encode() + (b"" if head else body))


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in lines[1:] if line]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return method, target, headers, await reader.readexactly(length) if length else b""


async def respond(request, connection, reader, writer):
    method, target, headers, body = request
    parts = urllib.parse.urlsplit(target)
    words = parts.path.strip("/").split("/")
    query = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query, keep_blank_values=True).items()}
    for name in filter(None, (words[0], query.get("tag"))):
        hits[name] = hits.get(name, 0) + 1
    tag = query.get("tag")
    if tag:
        asked.setdefault(tag, []).append({"method": method, "target": target, "headers": {name.lower(): value for name, value in headers}})
        under_way[tag] = under_way.get(tag, 0) + 1
        peaks[tag] = max(peaks.get(tag, 0), under_way[tag])
    try:
        return await play(words, query, request, connection, reader, writer)
    finally:
        if tag:
            under_way[tag] -= 1


async def play(words, query, request, connection, reader, writer):
    method, target, headers, body = request
    head = method == "HEAD"
    if connection.get("stale"):
        raise Faults
    if words[0] == "status":
        extra = [("Retry-After", query["retry_after"])] if "retry_after" in query else []
        answer(writer, words[1], query.get("body", "").encode("latin-1"), query.get("type", "application/json"), extra, head)
    elif words[0] == "sequence":
        codes = query["codes"].split(",")
        turn = sequences[words[1]] = sequences.get(words[1], -1) + 1
        answer(writer, codes[min(turn, len(codes) - 1)], json.dumps({"turn": turn}).encode())
    elif words[0] in ("echo", "stale", "hangup"):
        connection["stale"] = words[0] == "stale"
        echo = {"method": method, "target": target, "headers": headers, "body": body.decode("utf-8", "replace"),
                "connection": connection["number"], "request": connection["requests"]}
        answer(writer, 200, json.dumps(echo).encode(), head=head)
        if words[0] == "hangup":
            return False
    elif words[0] == "delay":
        await asyncio.sleep(int(words[1]) / 1000)
        answer(writer, 200, b'{"delayed": true}')
    elif words[0] == "first":
        turn = sequences["first " + words[1]] = sequences.get("first " + words[1], 0) + 1
        if turn == 1:
            await asyncio.sleep(int(words[2]) / 1000)
        answer(writer, 200, json.dumps({"turn": turn}).encode())
    elif words[0] == "hold":
        if not await opened(words[1], reader):
            aborted[words[1]] = aborted.get(words[1], 0) + 1
            return False
        answer(writer, 200, b'{"held": true}')
    elif words[0] == "drip":
        count = int(query["bytes"])
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {count}\r\n\r\n".encode())
        for _ in range(count):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(int(query["every"]) / 1000)
    elif words[0] == "huge":
        count = int(query["bytes"])
        writer.write(f"HTTP/1.1 {query.get('status', 200)} OK\r\nContent-Type: text/plain\r\nContent-Length: {count}\r\n\r\n".encode())
        for _ in range(count // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
        writer.write(b"x" * (count % 65536))
    elif words[0] == "endless":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"y" * 65536 + b"\r\n")
            await writer.drain()
    elif words[0] == "bytes":
        answer(writer, 200, bytes.fromhex(query["hex"]), query.get("type", ""))
    elif words[0] == "redirect":
        answer(writer, query.get("status", "302"), b"moved", "text/plain", [("Location", query["to"])] if "to" in query else [], head)
    elif words[0] == "loop":
        answer(writer, 302, b"", "text/plain", [("Location", "/loop")])
    elif words[0] == "swallow":
        raise Faults
    elif words[0] == "half":
        writer.write(f"HTTP/1.1 {query.get('status', 200)} OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nhalf".encode())
        await writer.drain()
        await asyncio.sleep(0.05)  # a reset overtakes what is still on its way
        raise Faults
    elif words[0] == "headonly":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        return False
    elif words[0] == "raw":
        writer.write(bytes.fromhex(query["hex"]))
        return False
    else:
        answer(writer, 404, b'{"error": "no such script"}')
    return not any(name.lower() == "connection" and value == "close" for name, value in headers)


async def opened(name, reader):
    """Waits for the gate to open; false when the client leaves before that."""
    gate = asyncio.ensure_future(gates.setdefault(name, asyncio.Event()).wait())
    gone = asyncio.ensure_future(reader.read(1))  # nothing comes on a connection that waits for its answer, but its end
    await asyncio.wait((gate, gone), return_when=asyncio.FIRST_COMPLETED)
    left = gone.done()
    gone.cancel()
    gate.cancel()
    await asyncio.gather(gate, gone, return_exceptions=True)
    return not left


async def serve(reader, writer):
    counts["connections"] += 1
    connection = {"number": counts["connections"], "requests": 0}
    try:
        while True:
            request = await read_request(reader)
            connection["requests"] += 1
            more = await respond(request, connection, reader, writer)
            await writer.drain()
            if not more:
                break
        writer.close()
    except Faults:
        reset(writer)
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, ValueError, asyncio.LimitOverrunError):
        writer.close()


async def trap(reader, writer):
    counts["trapped"] += 1
    try:
        await read_request(reader)
        answer(writer, 200, b'"trapped"')
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    writer.close()


async def blurt(_, writer):
    writer.write(b"HTTP/1.1 400 Speak first\r\n\r\n")
    writer.close()


# HTTP/2, as little as it takes: what is asked doesn't matter, so its header needs no decoding.
def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


async def serve_h2(reader, writer):
    data, header, settings, rst, goaway = 0, 1, 4, 3, 7
    try:
        await reader.readexactly(24)  # the preface
        writer.write(frame(settings, 0, 0))
        while True:
            start = await reader.readexactly(9)
            length, kind, flags, stream = int.from_bytes(start[:3], "big"), start[3], start[4], int.from_bytes(start[5:], "big")
            await reader.readexactly(length)
            if kind == settings and not flags & 1:
                writer.write(frame(settings, 1, 0))
            if kind in (data, header) and flags & 1:  # the request's end
                hits["h2"] = hits.get("h2", 0) + 1
                action = h2_script.pop(0) if h2_script else "200"
                if action == "200":
                    writer.write(frame(header, 4, stream, b"\x88\x0f\x10\x10application/json") + frame(data, 1, stream, b'{"http": 2}'))
                elif action == "refuse":
                    writer.write(frame(rst, 0, stream, struct.pack(">I", 7)))
                elif action == "goaway":
                    writer.write(frame(goaway, 0, 0, struct.pack(">II", 0, 0)))
                    await writer.drain()
                    break
                elif action == "reset":
                    raise Faults
            await writer.drain()
        writer.close()
    except Faults:
        reset(writer)
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        writer.close()


class NameServer(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, packet, peer):
        end, labels = 12, []
        while packet[end]:
            labels.append(packet[end + 1:end + 1 + packet[end]].decode())
            end += 1 + packet[end]
        question = packet[12:end + 5]
        kind = int.from_bytes(question[-4:-2], "big")
        name = ".".join(labels).lower()
        if name.startswith("silent."):
            return
        known = None
        if name in names:
            turns = names[name]
            # Both kinds of address are asked for at once, IPv4 first.
            if kind == 1:
                turns["turn"] += 1
            known = turns["answers"][min(max(turns["turn"], 0), len(turns["answers"]) - 1)]
        answers = []
        for address in known or []:
            family, number = (socket.AF_INET6, 28) if ":" in address else (socket.AF_INET, 1)
            if number == kind:
                raw = socket.inet_pton(family, address)
                answers.append(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(raw)) + raw)
        flags = 0x8180 if known is not None else 0x8183
        self.transport.sendto(packet[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0) + question + b"".join(answers), peer)


def certificates(directory):
    """An authority, and what it signed: good, for another host, expired; and one that nobody signed."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

    def request(name, subject):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")

    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=Test Authority")
    for name, alternative, days in (("good", "DNS:localhost,IP:127.0.0.1", "2"), ("wrong", "DNS:other.example", "2"), ("expired", "DNS:localhost,IP:127.0.0.1", "-1")):
        with open(os.path.join(directory, f"{name}.ext"), "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={alternative}\n")
        request(name, name)
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        try:
            openssl(*sign, "-days", days)
        except subprocess.CalledProcessError:  # from 3.4 on days can't be negative, and both ends can be given
            openssl(*sign, "-not_before", "20200101000000Z", "-not_after", "20200102000000Z")
    openssl("req", "-x509", *key, "-keyout", "self.key", "-out", "self.pem", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost")


def tls(directory, name, protocols=("http/1.1",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, f"{name}.pem"), os.path.join(directory, f"{name}.key"))
    context.set_alpn_protocols(list(protocols))
    return context


async def listen(handler, host, port=0, context=None):
    server = await asyncio.start_server(handler, host, port, ssl=context, limit=1 << 22, backlog=1024)
    return server, server.sockets[0].getsockname()[1]


def obey(line):
    words = line.split()
    if words[0] == "hits":
        return hits.get(words[1], 0)
    if words[0] == "all":
        return {name: count for name, count in hits.items() if name.startswith(words[1])}
    if words[0] == "asked":
        return asked.get(words[1], [])
    if words[0] in ("peak", "aborted"):
        return (peaks if words[0] == "peak" else aborted).get(words[1], 0)
    if words[0] == "open":
        gates.setdefault(words[1], asyncio.Event()).set()
        return True
    if words[0] in counts:
        return counts[words[0]]
    if words[0] == "h2":
        h2_script[:] = words[1].split(",")
        return True
    if words[0] == "dns":
        names[words[1].lower()] = {"turn": -1, "answers": [turn.split(",") for turn in words[2].split("|")]}
        return True
    raise ValueError(line)


async def main():
    directory = sys.argv[1]
    certificates(directory)
    world = "--world" in sys.argv
    kept, ports = [], {"ca": os.path.join(directory, "ca.pem")}
    for name, handler, context in (("http", serve, None), ("alone", serve, None), ("https", serve, tls(directory, "good")), ("wrong", serve, tls(directory, "wrong")),
                                   ("expired", serve, tls(directory, "expired")), ("self", serve, tls(directory, "self")),
                                   ("h2", serve_h2, tls(directory, "good", ("h2",))), ("rude", blurt, None)):
        server, ports[name] = await listen(handler, "0.0.0.0" if world else "127.0.0.1", context=context)
        kept.append(server)
    # The trap listens everywhere, on one port for both families.
    server, ports["trap"] = await listen(trap, "0.0.0.0")
    kept.append(server)
    try:
        kept.append((await listen(trap, "::", ports["trap"]))[0])
        ports["ipv6"] = True
    except OSError:
        ports["ipv6"] = False
    # Takes connections into its backlog and never answers one.
    silent = socket.create_server(("127.0.0.1", 0))
    ports["silent"] = silent.getsockname()[1]
    loop = asyncio.get_running_loop()
    if world:
        await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 53))
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    print(json.dumps(ports), flush=True)
    while line := (await stdin.readline()).decode().strip():
        print(json.dumps(obey(line)), flush=True)
    os._exit(0)  # whatever is still being served


asyncio.run(main())
