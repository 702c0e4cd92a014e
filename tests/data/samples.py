"""Reads the samples of deploy/ with foreign parsers and prints them as JSON, for tests/it/samples.rs.

    samples.py kubernetes FILE...    each document, validated strictly against the schemas of VERSION
    samples.py containerfile FILE    each instruction
"""
import json
import sys

VERSION = "1.37"


def kubernetes(paths):
    import kubernetes_validate
    import yaml

    documents = []
    for path in paths:
        with open(path) as file:
            for document in yaml.safe_load_all(file):
                # Strict: a field that the schema does not have is refused.
                kubernetes_validate.validate(document, VERSION, strict=True)
                documents.append(document)
    return documents


def containerfile(paths):
    from dockerfile_parse import DockerfileParser

    [path] = paths
    with open(path, "rb") as file:
        parser = DockerfileParser(fileobj=file)
        return [[row["instruction"], row["value"]] for row in parser.structure]


print(json.dumps({"kubernetes": kubernetes, "containerfile": containerfile}[sys.argv[1]](sys.argv[2:])))
