"""Has Helm's own engine look at the chart: lint, schema, and whether it renders what Kustomize renders.

Takes the folder with Kustomize's renders of the base and of each component, as NAME.yaml, and writes what the chart's own
examples of values come to beside them, as chart-NAME.yaml, to be looked at like these.
"""

import logging
import pathlib
import re
import sys

import helm_python as helm
import yaml

CHART = "deploy/helm/orderwright"
CLIENT = "azure.workload.identity/client-id"
# Of `helm lint`'s findings: information. A chart for one program needs no icon.
INFORMATION = 1


def rendered(values):
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values, name="orderwright", namespace="orders")
    texts = [text for name, text in texts.items() if not name.endswith("NOTES.txt")]
    return [it for text in texts for it in yaml.safe_load_all(text) if it]


def folded(value):
    """Kustomize writes some texts that it folds with an empty line more."""
    if isinstance(value, dict):
        return {name: folded(it) for name, it in value.items()}
    if isinstance(value, list):
        return [folded(it) for it in value]
    return re.sub(r"\n+", "\n", value) if isinstance(value, str) else value


def plain(resources):
    """By kind and name, without what the two must say differently: how a change of the settings reaches the pods."""
    by_name = {}
    for it in resources:
        name = it["metadata"]["name"]
        if it["kind"] == "ConfigMap":
            # Kustomize puts a sum of the content behind the name, the chart one into an annotation of the pod.
            name = it["metadata"]["name"] = "orderwright"
        if it["kind"] == "Deployment":
            template = it["spec"]["template"]
            template["metadata"]["annotations"].pop("checksum/settings", None)
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = "orderwright"
        it["metadata"].pop("namespace", None)
        key = (it["apiVersion"], it["kind"], name)
        assert key not in by_name, f"{key} is there twice"
        by_name[key] = folded(it)
    return by_name


def equal(name, chart, kustomize):
    chart, kustomize = plain(chart), plain(kustomize)
    for key in sorted(chart.keys() | kustomize.keys()):
        if chart.get(key) != kustomize.get(key):
            print(f"{name}: {key} differs\n--- chart\n{yaml.dump(chart.get(key))}--- kustomize", file=sys.stderr)
            sys.exit(yaml.dump(kustomize.get(key)))
    print(f"manifests: the chart renders {name} as Kustomize does: {len(chart)} resources", file=sys.stderr)


def refused(values):
    try:
        rendered(values)
    except helm.HelmError:
        return
    sys.exit(f"the chart takes {values}")


def main():
    work = pathlib.Path(sys.argv[1])
    examples = {it.stem: yaml.safe_load(it.read_text()) for it in sorted(pathlib.Path(CHART, "ci").glob("*.yaml"))}
    for values in [{}, *examples.values()]:
        found = helm.lint(CHART, values, strict=True)
        said = [it for it in found["messages"] if it["severity"] > INFORMATION]
        if said or found["errors"]:
            sys.exit(f"helm lint: {said} {found['errors']}")

    components = sorted(it.name for it in pathlib.Path("deploy/kubernetes/components").iterdir())
    for name in ["base", *components]:
        values = {} if name == "base" else {"components": [name]}
        if name == "workload-identity":
            # What the overlay says.
            values["serviceAccount"] = {"annotations": {CLIENT: "mine"}}
        text = (work / f"{name}.yaml").read_text().replace("set-me-in-the-overlay", "mine")
        equal(name, rendered(values), list(yaml.safe_load_all(text)))

    for name, values in examples.items():
        (work / f"chart-{name}.yaml").write_text(yaml.safe_dump_all(rendered(values)))
    # The values do what they say.
    self_contained = plain(rendered(examples["self-contained-values"]))
    deployment = self_contained["apps/v1", "Deployment", "orderwright"]["spec"]
    container = deployment["template"]["spec"]["containers"][0]
    assert deployment["replicas"] == 3, deployment
    assert container["resources"]["limits"] == {"memory": "1Gi"}, container
    assert container["env"][-1] == {"name": "ORDERWRIGHT__LOG__LEVEL", "value": "debug"}, container
    assert {"secretName": "orders", "defaultMode": 288} in [it.get("secret") for it in deployment["template"]["spec"]["volumes"]]
    assert not any(kind == "NetworkPolicy" for _, kind, _ in self_contained), self_contained.keys()
    production = plain(rendered(examples["production-values"]))
    deployment = production["apps/v1", "Deployment", "orderwright"]["spec"]
    assert "replicas" not in deployment, deployment
    assert deployment["template"]["spec"]["priorityClassName"] == "orders"
    assert deployment["template"]["spec"]["containers"][0]["image"] == "registry.example/orderwright:0.1.0"
    assert production["keda.sh/v1alpha1", "ScaledObject", "orderwright"]["spec"]["maxReplicaCount"] == 4
    for kind in ["PodMonitor", "PrometheusRule"]:
        labels = production["monitoring.coreos.com/v1", kind, "orderwright"]["metadata"]["labels"]
        assert labels["release"] == "kube-prometheus-stack", labels

    # And what makes no sense is refused.
    refused({"replicaCount": 2})
    refused({"replicas": "2"})
    refused({"image": {"repo": "x"}})
    refused({"components": ["kede"]})
    refused({"components": ["client-secret", "workload-identity"]})
    refused({"components": ["workload-identity"]})
    refused({"pod": {"hostNetwork": True}})


logging.disable()
main()
