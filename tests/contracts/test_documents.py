"""The committed documents are what the code gives, and every golden example keeps its contract."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

import contracts
from contracts.codec import MAX_BYTES, ContractError, decode, encode
from contracts.publication import asyncapi, models, schema_of, topic_table
from contracts.v1.command import Read
from contracts.v1.frame import Frame
from contracts.v1.frame_codec import decode_frame, encode_frame
from contracts.v1.tag import TagValue
from contracts.v1.topics import TOPICS
from services.cli.contracts import current, drift, incompatibilities

FOLDER = Path(contracts.__file__).parent
EXAMPLES = sorted((FOLDER / "examples" / "v1").glob("*.json"))


def example(path: Path):
    content = json.loads(path.read_text())
    topic = next(topic for topic in TOPICS if topic.parse(content["topic"]) is not None)
    payload = json.dumps(content["payload"], separators=(",", ":")).encode()
    return topic, content["topic"], payload


@pytest.fixture(scope="module")
def published():
    """Every document, as the code gives it."""
    return current(FOLDER)


def test_the_committed_documents_are_current():
    assert drift(FOLDER) == []


def test_the_models_keep_the_released_v1():
    assert incompatibilities(FOLDER) == []


def test_every_message_has_a_released_schema():
    assert {path.stem for path in (FOLDER / "schema" / "released" / "v1").glob("*.json")} == set(models())


def test_a_document_that_differs_and_one_that_is_left_over_are_named(tmp_path):
    for name, text in current(tmp_path).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "schema/v1/Frame.json").write_text("{}")
    (tmp_path / "schema/v1/Old.json").write_text("{}")

    assert drift(tmp_path) == [
        "schema/v1/Frame.json: is not what the code gives",
        "schema/v1/Old.json: no message has this schema any more",
    ]


def test_each_link_within_the_reference_leads_to_one_heading(published):
    page = published["reference.md"]
    anchors = [re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"(?m)^#+ (.+)$", page)]

    assert [anchor for anchor in anchors if anchors.count(anchor) > 1] == []
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_decodes_and_encodes_to_the_same_bytes(path):
    topic, address, payload = example(path)

    message = decode(topic.payload, payload, topic=address)

    assert json.loads(encode(message, topic=address)) == json.loads(payload)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_keeps_the_published_schema(path, published):
    topic, _, payload = example(path)

    jsonschema.validate(json.loads(payload), json.loads(published[f"schema/v1/{topic.payload.__name__}.json"]))


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.stem.startswith("frame")], ids=lambda path: path.stem
)
def test_the_fast_codec_gives_a_golden_frame_byte_for_byte(path):
    _, address, payload = example(path)

    assert encode_frame(decode_frame(payload, topic=address), topic=address) == payload


def test_every_topic_has_an_example():
    assert {example(path)[0].name for path in EXAMPLES} == {topic.name for topic in TOPICS}


def test_the_readme_has_the_topics_as_the_code_has_them():
    assert topic_table() in (FOLDER / "README.md").read_text()


def test_the_asyncapi_document_has_a_channel_and_an_operation_for_every_topic():
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())

    assert document == asyncapi()
    assert {channel["address"] for channel in document["channels"].values()} == {
        f"dinrail/v1/{{site}}/{topic.pattern}" for topic in TOPICS
    }
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"].rsplit("/", 1)[1]
        assert channel in document["channels"]


def test_every_schema_reference_of_the_asyncapi_document_is_a_committed_file():
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())

    for message in document["components"]["messages"].values():
        assert (FOLDER / message["payload"]["schema"]["$ref"]).is_file()


def test_an_unknown_field_of_a_newer_writer_is_ignored():
    value = decode(TagValue, b'{"value":1.5,"ts":1,"q":192,"seen":1,"colour":"red"}', topic="t")

    assert value == TagValue(value=1.5, ts=1, q=192, seen=1)


def test_a_fault_names_the_topic_and_the_json_path():
    with pytest.raises(
        ContractError, match=r"frame/x: \$\.samples\[0\]\.t: Input should be greater than or equal to 0"
    ):
        decode(Frame, b'{"epoch":1,"seq":1,"rev":"a","samples":[{"t":-1,"v":{}}]}', topic="frame/x")


def test_a_message_of_nothing_but_faults_is_refused_in_a_few_words():
    data = b"{" + b",".join(b'"%s%d":1' % (b"k" * 500, at) for at in range(1000)) + b"}"

    with pytest.raises(ContractError, match=r"^t: ") as refused:
        decode(Read, data, topic="t")

    assert len(str(refused.value)) < 3000
    assert str(refused.value).endswith("and 990 more")


def test_a_payload_over_the_bound_is_refused_both_ways():
    large = TagValue(value="x" * MAX_BYTES, ts=1, q=192, seen=1)

    with pytest.raises(ContractError, match="over the bound"):
        encode(large, topic="t")
    with pytest.raises(ContractError, match="over the bound"):
        decode(TagValue, b" " * (MAX_BYTES + 1), topic="t")


def test_schemas_are_of_the_draft_they_name():
    for model in models().values():
        jsonschema.Draft202012Validator.check_schema(schema_of(model))


def test_the_reference_tells_every_topic_with_who_writes_and_reads_it_its_delivery_and_an_example_that_holds(published):
    page = published["reference.md"]
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", page, flags=re.MULTILINE | re.DOTALL))

    for topic in TOPICS:
        text = sections[topic.name.lower()]
        schema = json.loads(published[f"schema/v1/{topic.payload.__name__}.json"])
        (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
        jsonschema.validate(json.loads(example), schema)
        assert f"`dinrail/v1/{{site}}/{topic.pattern}`" in text
        assert "Written by: " in text
        assert "Read by: nobody" not in text
        assert f"QoS {topic.qos}, {'' if topic.retain else 'not '}retained" in text
        assert all(f"| `{name}` | " in text for name in schema.get("properties", {}))


def test_a_field_in_the_reference_has_its_type_its_bounds_and_its_words(published):
    page = published["reference.md"]

    assert "| `ts` | integer | yes | source time of the value; milliseconds since 1970 UTC; ≥ 0 |" in page
    assert "| `q` | integer | yes | 192 good, 64 uncertain, 0 bad; ≥ 0; ≤ 255 |" in page
