"""Reads rendered manifests and checks them: schema, references among them, and what every pod is promised to be.

    kubectl kustomize OVERLAY | python check.py OVERLAY
"""

import sys

import kubernetes_validate
import yaml

VERSION = "1.32"
# Made by the operator, from `secrets.sh`.
FROM_OUTSIDE = {("Secret", "firmament")}
OF_OPERATORS = {"ServiceMonitor"}

overlay = sys.argv[1]
resources = [resource for resource in yaml.safe_load_all(sys.stdin) if resource]
names = {(resource["kind"], resource["metadata"]["name"]) for resource in resources} | FROM_OUTSIDE
faults = []


def fault(resource, what):
    faults.append(f"{overlay}: {resource['kind']} {resource['metadata']['name']}: {what}")


def refers(resource, kind, name):
    if (kind, name) not in names:
        fault(resource, f"there is no {kind} `{name}`")


def template(resource):
    return resource["spec"].get("template") if resource["kind"] in ("Deployment", "StatefulSet", "Job") else None


templates = [found for resource in resources if (found := template(resource))]


def selects(resource, labels):
    pods = [pod["metadata"]["labels"] for pod in templates]
    if not any(labels.items() <= pod.items() for pod in pods):
        fault(resource, f"no pod has the labels {labels}")


def check_pod(resource, pod):
    claims = {claim["metadata"]["name"] for claim in resource["spec"].get("volumeClaimTemplates", [])}
    volumes = {volume["name"] for volume in pod.get("volumes", [])} | claims
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            refers(resource, "Secret", volume["secret"]["secretName"])
        if "persistentVolumeClaim" in volume:
            refers(resource, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    refers(resource, "ServiceAccount", pod["serviceAccountName"])
    if pod["automountServiceAccountToken"] or not pod["securityContext"]["runAsNonRoot"]:
        fault(resource, "its pods must be no users of Kubernetes and not root")
    for container in pod["containers"] + pod.get("initContainers", []):
        for source in container.get("envFrom", []):
            refers(resource, "ConfigMap", source["configMapRef"]["name"])
        if missing := {mount["name"] for mount in container.get("volumeMounts", [])} - volumes:
            fault(resource, f"no volume is named {missing}")
        context = container["securityContext"]
        locked = context.get("readOnlyRootFilesystem") and context.get("allowPrivilegeEscalation") is False
        if not locked or context["capabilities"] != {"drop": ["ALL"]}:
            fault(resource, f"container {container['name']} is not locked down")
        if "memory" not in container["resources"]["limits"]:
            fault(resource, f"container {container['name']} has no bound of memory")
        ports = {port["name"] for port in container.get("ports", [])}
        probes = [container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in container]
        if any(probe["httpGet"]["port"] not in ports for probe in probes):
            fault(resource, "a probe asks at a port that is not there")


for resource in resources:
    if resource["kind"] not in OF_OPERATORS:
        try:
            kubernetes_validate.validate(resource, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            fault(resource, f"{error.message} at {list(error.path)}")
    if found := template(resource):
        check_pod(resource, found["spec"])
    if resource["kind"] == "StatefulSet":
        refers(resource, "Service", resource["spec"]["serviceName"])
    if resource["kind"] == "Service":
        selects(resource, resource["spec"]["selector"])
    if resource["kind"] == "PodDisruptionBudget":
        selects(resource, resource["spec"]["selector"]["matchLabels"])

if faults:
    sys.exit("\n".join(faults))
print(f"{overlay}: {len(resources)} resources are right")
