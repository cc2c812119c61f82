"""Reads `docker inspect` of one container and fails unless it is as locked down as deploy/README.md promises."""

import json
import sys

container = json.load(sys.stdin)[0]
host, config, name = container["HostConfig"], container["Config"], container["Name"]
user = config["User"].split(":")[0]
mounts = container["Mounts"]
public = [
    binding["HostIp"]
    for bindings in (host["PortBindings"] or {}).values()
    for binding in bindings or []
]
promises = {
    "runs as a numbered user that is not root": user.isdigit() and int(user) > 0,
    "has a read-only root": host["ReadonlyRootfs"],
    "has no capabilities": [cap.upper() for cap in host["CapDrop"] or []] == ["ALL"] and not host["CapAdd"],
    "gains no privileges": any(option.startswith("no-new-privileges") for option in host["SecurityOpt"] or []),
    "is not privileged": not host["Privileged"],
    "sees no socket of the engine": not any("docker.sock" in mount["Source"] for mount in mounts),
    "shares no namespace of the host": not any(
        host[kind] == "host" for kind in ("NetworkMode", "PidMode", "IpcMode", "UTSMode")
    ),
    "writes to no folder of the host": all(mount["Type"] == "volume" or not mount["RW"] for mount in mounts),
    "has bounded memory": host["Memory"] > 0,
    "has bounded processes": (host["PidsLimit"] or 0) > 0,
    "has bounded logs": "max-size" in host["LogConfig"]["Config"],
    "is published on loopback only": all(address == "127.0.0.1" for address in public),
    "has no secret in its environment": not any("fmk_" in value or "fmt1." in value for value in config["Env"]),
}
broken = [promise for promise, kept in promises.items() if not kept]
if broken:
    sys.exit(f"{name} does not keep its promises: it should be that it {', '.join(broken)}")
