"""The demo: real HTTP through the DPDK engine or the XDP engine, with backends that fail and come."""

import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

# Found by the line above.
import acts  # noqa: E402
import screen  # noqa: E402
from build import build_release  # noqa: E402
from testbed import topology  # noqa: E402
from testbed.appliance import Appliance  # noqa: E402
from testbed.builder import Testbed  # noqa: E402
from testbed.errors import TestbedError  # noqa: E402
from testbed.signals import raise_on_signals  # noqa: E402

_BACKENDS = 4
_MIN_REQUESTS = 100


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Builds Sluice, brings up a client, the balancer and real nginx backends in network namespaces, "
        "and shows real HTTP over IPv4 and IPv6 through it: how connections spread, what a failing backend does, "
        "and how little an added one moves. Needs root; takes everything down again. The last line is "
        '"demo: R requests, F failed, B backends, engine E"; the status is 0 only if nothing failed that should not.')
    parser.add_argument("--requests", type=int, default=6000, metavar="N",
                        help="requests that show the spread, each on a connection of its own (default: 6000)")
    parser.add_argument("--engine", choices=("auto", "dpdk", "xdp"), default="dpdk",
                        help="what moves packets (default: dpdk); auto: sluice-dataplane chooses, and says why")
    parser.add_argument("--keep", action="store_true", help="leave everything running afterwards, and say how to play")
    parser.add_argument("--prefix", default="demo", help="begins the names of the namespaces (default: demo)")
    arguments = parser.parse_args()
    if arguments.requests < _MIN_REQUESTS:
        parser.error(f"--requests {arguments.requests}: at least {_MIN_REQUESTS} are needed to show a spread")
    topology.check_prefix(arguments.prefix)
    if os.geteuid() != 0:
        parser.error("needs root for network namespaces and virtual NICs: run it with sudo")
    return arguments


def install_packages() -> None:
    if subprocess.run([str(ROOT / "tools" / "install-packages")], check=False).returncode != 0:
        raise TestbedError("packages are missing (above is why)")


def show(testbed: Testbed, requests: int, engine: str) -> acts.Stage:
    """Everything from the testbed on; the testbed is up afterwards."""
    screen.title("The testbed: network namespaces, a real nginx in each backend")
    testbed.up(_BACKENDS)
    appliance = Appliance(testbed, ROOT / "build")
    stage = acts.Stage(testbed, appliance)
    stage.start(engine)
    stage.show_spread(requests)
    with stage.held_connections():
        stage.show_drain()
        stage.show_failure()
        stage.show_addition(requests // 4)
    stage.show_accounts()
    return stage


def say_how_to_play(testbed: Testbed) -> None:
    appliance = Appliance(testbed, ROOT / "build")
    client = f"sudo nsenter --net=/run/netns/{testbed.network.client}"
    sluicectl = "sudo " + " ".join(appliance.sluicectl_argv())
    screen.title("It is left running")
    for line in (
            f"{client} curl http://{topology.VIP_IPV4}/",
            f"{client} curl -g 'http://[{topology.VIP_IPV6}]/'",
            f"{sluicectl} backends",
            f"{sluicectl} drain web/b1",
            f"{sluicectl} connections",
            f"{sluicectl} counters",
            f"sudo $EDITOR {appliance.config_path}, then {sluicectl} reload",
            f"sudo {ROOT}/tools/testbed/testbed --prefix {testbed.prefix} status",
    ):
        screen.say(line)
    screen.say("")
    screen.say(f"Take it down: sudo {ROOT}/tools/testbed/testbed --prefix {testbed.prefix} down")


def run(arguments: argparse.Namespace) -> int:
    install_packages()
    screen.title("Build (release, in build/)")
    build_release(ROOT, ROOT / "build")
    testbed = Testbed(arguments.prefix)
    kept = False
    try:
        stage = show(testbed, arguments.requests, arguments.engine)
        score = stage.score
        backends = len(testbed.backends())
        if arguments.keep:
            say_how_to_play(testbed)
            testbed.release()
            kept = True
    finally:
        if not kept and testbed.is_mine():
            screen.say("")
            screen.say("taking everything down")
            testbed.down()
    if score.unexpected:
        screen.title("What failed and should not have")
        for line in score.unexpected:
            screen.say(line)
    print(f"demo: {score.requests} requests, {score.failed} failed, {backends} backends, engine {stage.engine}",
          flush=True)
    return 0 if score.failed == 0 and not score.unexpected else 1


def main() -> int:
    raise_on_signals()
    try:
        return run(parse_arguments())
    except TestbedError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything is taken down", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
