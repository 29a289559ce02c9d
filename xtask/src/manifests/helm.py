"""Helm's own engine, and the API's schemas, for `cargo xtask manifests` and its tests.

Exits with 1, and one line for each finding on standard error, where something is wrong.
"""

import sys
import warnings

import yaml

RELEASE = "wiretape"
# Of Helm's severities: 1 is advice, such as a missing icon.
WARNING = 2


def values_of(path):
    with open(path) as file:
        return yaml.safe_load(file) or {}


def render(chart, values):
    """What `helm template` makes: the namespace first, since all else goes into it, the others by name."""
    from helm_python.chart import Chart

    with Chart.load(chart) as loaded:
        templates = loaded.render(values_of(values), name=RELEASE, namespace=RELEASE)
    for name in sorted(templates, key=lambda name: (not name.endswith("/namespace.yaml"), name)):
        text = templates[name].strip()
        if text and name.endswith(".yaml"):
            print(f"---\n# {name}\n{text}")


def lint(chart, values):
    """`helm lint --strict`."""
    from helm_python.chart import lint as helm_lint

    report = helm_lint(chart, values_of(values), strict=True, namespace=RELEASE)
    return [message for message in report["messages"] if message["severity"] >= WARNING]


def accepts(chart, values):
    """Whether values.schema.json takes the values."""
    from helm_python.chart import Chart
    from helm_python.errors import HelmValuesError

    with Chart.load(chart) as loaded:
        try:
            loaded.validate_schema(values_of(values))
        except HelmValuesError as error:
            return [str(error)]


def validate(manifests, *versions):
    """Holds every object against the OpenAPI schemas of these versions of Kubernetes, with no field beyond them."""
    warnings.simplefilter("ignore")
    import kubernetes_validate

    findings, unknown = [], set()
    with open(manifests) as file:
        objects = [thing for thing in yaml.safe_load_all(file) if thing]
    for version in versions:
        for thing in objects:
            kind = thing["kind"]
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                unknown.add(kind)
            except kubernetes_validate.ValidationError as error:
                findings.append(f"{version}: {kind} {thing['metadata']['name']}: {error.message}")
    print(f"{len(objects)} objects; no schema of: {', '.join(sorted(unknown)) or 'none'}")
    return findings


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    findings = globals()[command](*arguments)
    for finding in findings or []:
        print(finding, file=sys.stderr)
    sys.exit(1 if findings else 0)
