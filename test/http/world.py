#!/usr/bin/env python3
"""Runs a command in a network of its own, in which every address of both families leads back to this machine.

  unshare --user --map-root-user --net --mount ./world.py COMMAND…

So a listener on 0.0.0.0 and :: is reached under any address whatever, public ones and metadata services included, and what
is dialled there can be counted. Names are resolved by a server on 127.0.0.1, port 53.
"""
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        get_flags, set_flags, up = 0x8913, 0x8914, 1
        flags, = struct.unpack_from("h", fcntl.ioctl(sock, get_flags, struct.pack("16sh14x", b"lo", 0)), 16)
        fcntl.ioctl(sock, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def everything_is_local(family):
    """ip route add local default dev lo"""
    new_route, request, acknowledge, create = 24, 1, 4, 0x400
    table_local, protocol_boot, scope_host, kind_local, attribute_interface = 255, 3, 254, 2, 4
    route = struct.pack("BBBBBBBBI", family, 0, 0, 0, table_local, protocol_boot, scope_host, kind_local, 0)
    route += struct.pack("HHI", 8, attribute_interface, socket.if_nametoindex("lo"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(struct.pack("IHHII", 16 + len(route), new_route, request | acknowledge | create, 1, 0) + route)
        error, = struct.unpack_from("i", sock.recv(4096), 16)
        if error:
            raise OSError(-error, os.strerror(-error))


loopback_up()
everything_is_local(socket.AF_INET)
if socket.has_ipv6:
    everything_is_local(socket.AF_INET6)
with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as names:
    names.write("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
subprocess.run(["mount", "--bind", names.name, "/etc/resolv.conf"], check=True)
os.unlink(names.name)  # it lives on where it is mounted
os.environ["TASKER_TEST_WORLD"] = "1"
os.execvp(sys.argv[1], sys.argv[1:])
