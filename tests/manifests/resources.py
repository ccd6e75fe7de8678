"""Checks the custom resources of a rendered manifest against tests/schemas, each by its own schema.

kubernetes-validate only warns of kinds that it does not know; here a kind without a schema is an error.
"""

import json
import pathlib
import subprocess
import sys

import yaml

CORE = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1"}

work, manifest = map(pathlib.Path, sys.argv[1:])
by_schema = {}
for number, resource in enumerate(yaml.safe_load_all(manifest.read_text())):
    if resource["apiVersion"] in CORE:
        continue
    group, version = resource["apiVersion"].split("/")
    schema = pathlib.Path("tests/schemas", group, f"{resource['kind'].lower()}_{version}.json")
    if not schema.exists():
        sys.exit(f"{manifest.name}: no schema for {resource['kind']}: {schema} is not there")
    file = work / f"{number}-{resource['kind']}.json"
    file.write_text(json.dumps(resource))
    by_schema.setdefault(schema, []).append(file)
for schema, files in by_schema.items():
    command = ["check-jsonschema", "--quiet", "--schemafile", schema, *files]
    if subprocess.run(command).returncode:
        sys.exit(1)
