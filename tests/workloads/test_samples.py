"""Our sample manifests: every image is known, every rule names what exists."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lateen.workloads.images import builtin_command

SAMPLES = Path(__file__).parents[2] / "samples"
FILES = sorted(SAMPLES.rglob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        return [each for each in yaml.safe_load_all(file) if each]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SAMPLES)))
def test_manifest(path: Path) -> None:
    for document in documents(path):
        assert document["metadata"]["name"]
        if document["kind"] != "Deployment":
            continue
        template = document["spec"]["template"]
        wanted = document["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= template["metadata"]["labels"].items()
        for container in template["spec"]["containers"]:
            known = container["image"] == "auto" or builtin_command(container["image"])
            assert known, container["image"]


def test_bookinfo_has_the_six_deployments_and_their_subsets() -> None:
    bookinfo = documents(SAMPLES / "bookinfo" / "bookinfo.yaml")
    deployments = {each["metadata"]["name"] for each in bookinfo if each["kind"] == "Deployment"}
    assert deployments == {
        "productpage-v1",
        "details-v1",
        "ratings-v1",
        "reviews-v1",
        "reviews-v2",
        "reviews-v3",
    }


def test_rules_name_only_subsets_of_the_destination_rules() -> None:
    rules = SAMPLES / "bookinfo" / "rules"
    subsets = {
        (rule["spec"]["host"], subset["name"])
        for rule in documents(rules / "destination-rules.yaml")
        for subset in rule["spec"]["subsets"]
    }
    for path in rules.glob("*.yaml"):
        for document in documents(path):
            if document["kind"] != "VirtualService":
                continue
            for route in document["spec"]["http"]:
                targets = [each["destination"] for each in route["route"]]
                targets += [route["mirror"]] if "mirror" in route else []
                for target in targets:
                    assert (target["host"], target["subset"]) in subsets, path.name


def test_every_rule_is_in_the_readme() -> None:
    readme = (SAMPLES / "README.md").read_text()
    for path in (SAMPLES / "bookinfo" / "rules").glob("*.yaml"):
        assert path.name in readme
