"""The command line of the testbed."""

import argparse
import sys

from testbed import topology
from testbed.builder import Testbed
from testbed.errors import TestbedError
from testbed.network import HOST_INTERFACE
from testbed.signals import raise_on_signals


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="testbed", description="Network namespaces with a client, a balancer and real nginx backends.")
    parser.add_argument("--prefix", default="slb", help="begins the names of the namespaces (default: slb)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build it; what an earlier run left behind is taken away first")
    up.add_argument("--backends", type=int, default=4, help="how many (default: 4)")
    up.add_argument("--queues", type=int, default=1, help="queues of each of the balancer's interfaces (default: 1)")
    up.add_argument("--segments", type=int, default=1,
                    help="2: the balancer reaches the backends by a second interface (default: 1)")
    up.add_argument("--mtu", type=int, default=topology.FABRIC_MTU,
                    help=f"of the fabric (default: {topology.FABRIC_MTU})")
    commands.add_parser("down", help="take everything down again")
    commands.add_parser("status", help="say what is there")
    commands.add_parser("add-backend", help="one more backend, with the next number")
    remove = commands.add_parser("remove-backend", help="take one backend away")
    remove.add_argument("name", help="for example b3")
    return parser


def _status(testbed: Testbed) -> int:
    if not testbed.is_up():
        leftovers = testbed.network.existing()
        print(f"testbed {testbed.prefix}: down" + (f", but {' '.join(leftovers)} are left" if leftovers else ""))
        return 3
    print(f"testbed {testbed.prefix}: up, files in {testbed.directory}")
    print(f"  VIPs      {topology.VIP_IPV4} {topology.VIP_IPV6}")
    print(f"  client    {testbed.network.client}: {topology.CLIENT_IPV4} {topology.CLIENT_IPV6}")
    print(f"  balancer  {testbed.network.balancer}: {topology.BALANCER_IPV4} {topology.BALANCER_IPV6}")
    for backend in testbed.backends():
        state = "nginx runs" if testbed.servers(backend).nginx_is_alive() else "nginx does not run"
        print(f"  {backend.name:<9} {testbed.network.of_backend(backend)}: {backend.ipv4} {backend.ipv6}, {state}")
    return 0


def _up(testbed: Testbed, arguments: argparse.Namespace) -> int:
    testbed.up(arguments.backends, arguments.queues, segments=arguments.segments, fabric_mtu=arguments.mtu)
    testbed.release()
    _status(testbed)
    print(f"A shell in the client's place: sudo nsenter --net=/run/netns/{testbed.network.client} "
          f"(its interface is {HOST_INTERFACE})")
    return 0


def _remove_backend(testbed: Testbed, name: str) -> int:
    if not (name.startswith("b") and name[1:].isdigit()):
        raise TestbedError(f'"{name}" is no name of a backend; they are called b1, b2, ...')
    testbed.remove_backend(int(name[1:]))
    return 0


def _dispatch(testbed: Testbed, arguments: argparse.Namespace) -> int:
    if arguments.command == "up":
        return _up(testbed, arguments)
    if arguments.command == "down":
        print(f"testbed {testbed.prefix}: " + ("taken down" if testbed.down() else "was down"))
        return 0
    if arguments.command == "add-backend":
        print(testbed.add_backend().name)
        return 0
    if arguments.command == "remove-backend":
        return _remove_backend(testbed, arguments.name)
    return _status(testbed)


def main() -> int:
    """Status 0 done, 1 failed, 2 usage, 3 (status) not up, 130 interrupted."""
    arguments = _parser().parse_args()
    raise_on_signals()
    try:
        return _dispatch(Testbed(arguments.prefix), arguments)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("testbed: interrupted; what was begun is taken down", file=sys.stderr)
        return 130
