"""Small programs that run inside pods; Python source for ``python -c``."""

SERVER = r"""
import os, socket, sys, threading
server = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=256)
def answer(client, address):
    with client:
        client.sendall(f"{os.uname().nodename} {address[0]}\n".encode())
while True:
    threading.Thread(target=answer, args=server.accept(), daemon=True).start()
"""

CLIENT = r"""
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
for _ in range(int(sys.argv[2])):
    try:
        with socket.create_connection((host, int(port)), 3) as client:
            print(client.makefile().read().strip() or "closed")
    except OSError as error:
        print(type(error).__name__)
"""

MARKED_CLIENT = r"""
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
client = socket.socket()
client.settimeout(3)
try:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1337)
    client.connect((host, int(port)))
    print(client.makefile().read().strip())
except OSError as error:
    print(type(error).__name__)
"""

PROXY = r"""
import socket, struct, threading
def serve(port, name):
    server = socket.create_server(("0.0.0.0", port))
    while True:
        client, _ = server.accept()
        raw = client.getsockopt(socket.SOL_IP, 80, 16)
        port_number, address = struct.unpack("!2xH4s8x", raw)
        client.sendall(f"{name} {socket.inet_ntoa(address)}:{port_number}\n".encode())
        client.close()
threading.Thread(target=serve, args=(15001, "outbound")).start()
threading.Thread(target=serve, args=(15006, "inbound")).start()
"""

ADDRESSES = r"""
import socket
print([name for _, name in socket.if_nameindex()])
"""

CAPABILITIES = r"""
wanted = ("CapEff", "CapBnd", "NoNewPrivs")
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(wanted)])
"""

INSPECT = r"""
import json, os, socket, sys
def attempt(function):
    try:
        return function()
    except OSError as error:
        return type(error).__name__
def write(path):
    with open(path, "w") as file:
        file.write("inside")
    return "written"
def bind(port):
    with socket.create_server(("0.0.0.0", port)):
        return "bound"
status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
print(json.dumps({
    "uid": os.getuid(), "pid": os.getpid(),
    "capabilities": [status["Cap" + key].strip() for key in ("Prm", "Eff", "Inh", "Amb", "Bnd")],
    "no new privileges": status["NoNewPrivs"].strip(),
    "groups": os.getgroups(),
    "hostname": socket.gethostname(),
    "hostname file": open("/etc/hostname").read().strip(),
    "cwd": os.getcwd(),
    "colour": os.environ["COLOUR"], "names": sorted(os.environ),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "open files": sorted(os.listdir("/proc/self/fd"))[:3],
    "state directory": attempt(lambda: os.listdir(sys.argv[1] + "/state")),
    "write volume": attempt(lambda: write("/no/such/place/data/from-inside")),
    "read secret": attempt(lambda: open("/etc/secrets/token").read()),
    "write secret": attempt(lambda: write("/etc/secrets/token")),
    "write root": attempt(lambda: write("/lateen-was-here")),
    "write sysctl": attempt(lambda: write("/proc/sys/net/ipv4/ip_forward")),
    "write tmp": attempt(lambda: write("/tmp/x")), "tmp": os.listdir("/tmp"),
    "devices": sorted(os.listdir("/dev")),
    "bind 80": attempt(lambda: bind(80)),
    "terminal": attempt(lambda: len(os.openpty())),
    "ping group": open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read().strip(),
}))
"""

READ_ONLY = r"""
import json
def attempt(path):
    try:
        with open(path, "w"):
            return "written"
    except OSError as error:
        return error.strerror
paths = ("/x", "/etc/x", "/usr/x", "/tmp/x", "/var/x", "/dev/shm/x", "/no/such/place/data/x")
print(json.dumps({path: attempt(path) for path in paths}))
"""

WRITE = r"""
import sys
with open(sys.argv[1], "w") as file:
    file.write("x")
"""

GRACEFUL = r"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
while True:
    time.sleep(1)
"""

STUBBORN = r"""
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(1)
"""

PATIENT_CLIENT = r"""
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
for _ in range(100):
    try:
        with socket.create_connection((host, int(port)), 3) as client:
            print(client.makefile().read().strip())
            break
    except OSError:
        time.sleep(0.1)
"""

_TYPE = "type.googleapis.com/envoy.extensions.filters"

ENVOY = {
    "node": {"id": "test", "cluster": "test"},
    "cluster_manager": {
        "upstream_bind_config": {
            "source_address": {"address": "0.0.0.0", "port_value": 0},
            # SOL_SOCKET, SO_MARK
            "socket_options": [
                {"level": 1, "name": 36, "int_value": 1337, "state": "STATE_PREBIND"}
            ],
        }
    },
    "static_resources": {
        "listeners": [
            {
                "name": "virtualOutbound",
                "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15001}},
                "listener_filters": [
                    {
                        "name": "envoy.filters.listener.original_dst",
                        "typed_config": {"@type": f"{_TYPE}.listener.original_dst.v3.OriginalDst"},
                    }
                ],
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "envoy.filters.network.tcp_proxy",
                                "typed_config": {
                                    "@type": f"{_TYPE}.network.tcp_proxy.v3.TcpProxy",
                                    "stat_prefix": "passthrough",
                                    "cluster": "PassthroughCluster",
                                },
                            }
                        ]
                    }
                ],
            }
        ],
        "clusters": [
            {
                "name": "PassthroughCluster",
                "type": "ORIGINAL_DST",
                "lb_policy": "CLUSTER_PROVIDED",
                "connect_timeout": "5s",
            }
        ],
    },
}

CONFINED = r"""
import ctypes, errno, json, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = platform.machine() == "aarch64"
def call(x86, arm, *arguments):
    ctypes.set_errno(0)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = libc.syscall(ctypes.c_long(arm if ARM else x86), *words)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
KEYCTL = (250, 219)
add = lambda name, ring: call(248, 217, b"user", name, b"payload", 7, ring)
search = lambda name, ring: call(*KEYCTL, 10, ring, b"user", name, 0)
facts = {"uid": os.getuid(), "groups": os.getgroups()}
if sys.argv[1] == "calls":
    facts["mode"] = [line.split()[1] for line in open("/proc/self/status")
                     if line.startswith("Seccomp:")]
    child = os.fork()
    if child == 0:
        import time; time.sleep(20); os._exit(0)
    facts["calls"] = {
        "attach": call(101, 117, 16, child, 0, 0),
        "keyctl": call(*KEYCTL, 0, -3, 1), "add_key": add(b"x", -3),
        "request_key": call(249, 218, b"user", b"x", b"", 0),
        "bpf": call(321, 280, 0, 0, 0), "mount": call(165, 40, 0, 0, 0, 0, 0),
        "unshare user": call(272, 97, 0x10000000), "unshare files": call(272, 97, 0x400),
        "clone user": call(56, 220, 0x10000000 | 17, 0, 0, 0, 0),
        "clone3": call(435, 435, 0, 0),
        "seize": call(101, 117, 0x4206, child, 0, 0),
        "peek": call(101, 117, 1, child, 0, 0), "vsock": call(41, 198, 40, 1, 0),
        "read other": call(310, 270, child, 0, 0, 0, 0, 0),
        "kexec": call(246, 104, 0, 0, 0, 0), "module": call(313, 273, -1, 0, 0),
        "personality": call(135, 92, 0x40000), "ask personality": call(135, 92, 0xFFFFFFFF),
        "unknown": call(1000, 1000), "perf": call(298, 241, 0, 0, 0, 0, 0),
        "io_uring": call(425, 425, 1, 0), "open_by_handle_at": call(304, 265, 0, 0, 0),
    }
    os.kill(child, 9)
elif sys.argv[1] == "keys":
    facts["found"] = {name: search(name.encode(), ring) for name, ring in
                      (("of-the-session", -3), ("of-the-user", -4), ("of-a-pod", -4),
                       ("of-a-container", -3))}
    facts["added"] = add(b"of-a-pod", -4) > 0, add(b"of-a-container", -3) > 0
if len(sys.argv) > 2:
    open(sys.argv[2] + "/file", "w").write("written")
print(json.dumps(facts))
"""
"""Tries system calls (``calls``) or looks for keys and leaves some (``keys``); writes a file."""
