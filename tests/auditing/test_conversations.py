"""Prompts with a system message and earlier turns: read, checked, asked, stored, shown; never left out unseen."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_server import chat_server, like_vllm

from leakbound import FakeModel, audit
from leakbound.auditing.steps import sample
from leakbound.cli import main
from leakbound.errors import InputError, PromptsError
from leakbound.models.base import check_asked
from leakbound.models.openai import OpenAIModel
from leakbound.reading.prompts import as_prompts, load_prompts, with_system
from leakbound.records import Prompt, SamplingParams, prompts_checksum
from leakbound.report import to_html
from leakbound.results.audit import Audit
from leakbound.runs.store import Run

TURNS = (("system", "Be brief."), ("user", "Hello?"), ("assistant", "Yes."))
TOLD = Prompt("a", "Who?", "Ann", (), TURNS)
ALONE = Prompt("b", "Where?", "Rome")
MESSAGES = [{"role": role, "content": text} for role, text in (*TURNS, ("user", "Who?"))]


def test_every_kind_of_file_gives_the_same_conversation(tmp_path):
    row = {"id": "a", "target": "Ann", "messages": MESSAGES}
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "p.json").write_text(json.dumps([row]))
    quoted = json.dumps(MESSAGES).replace('"', '""')
    (tmp_path / "p.csv").write_text(f'id,target,messages\na,Ann,"{quoted}"\n')
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "p.parquet")
    for name in ("p.jsonl", "p.json", "p.csv", "p.parquet"):
        assert load_prompts(tmp_path / name) == (TOLD,)
    assert as_prompts([TOLD, ALONE]) == (TOLD, ALONE)
    assert TOLD.messages() == MESSAGES


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": []}, "messages is"),
        ({"messages": "hello"}, "broken JSON"),
        ({"messages": MESSAGES, "text": "Who?"}, "has messages and text"),
        ({"messages": MESSAGES[:-1]}, "the last of its messages is of 'assistant'"),
        ({"messages": [*MESSAGES[1:3], *MESSAGES]}, "only first"),
        ({"messages": [{"role": "tool", "content": "x"}, *MESSAGES[1:]]}, "roles are"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}]}, "give a non-empty text"),
        ({"messages": [{"role": "user", "content": "Who?", "name": "eve"}]}, "messages holds"),
        ({"messages": [{"role": "user", "content": " "}]}, "content of 'user'"),
    ],
)
def test_what_is_no_conversation_is_named_with_its_row(row, said):
    with pytest.raises(PromptsError, match=rf"row 0: .*{said}"):
        as_prompts([{"id": "a", "target": "Ann", **row}])


def test_a_prompt_checks_its_turns():
    for turns in ("Be brief.", [("system",)], [("user", "x"), ("system", "y")], [("user", "")]):
        with pytest.raises(InputError, match="before"):
            Prompt("a", "Who?", "Ann", (), turns)


def test_a_run_keeps_the_conversation_and_its_checksum_covers_it(tmp_path):
    found = audit(FakeModel(leak=0.1), [TOLD, ALONE], num_samples=64, out=tmp_path / "r", progress=False)
    assert Run.open(tmp_path / "r").prompts == (TOLD, ALONE)
    assert [p.prompt for p in Audit.load(tmp_path / "r").prompts] == [TOLD, ALONE]
    assert pq.read_table(tmp_path / "r" / "prompts.parquet").to_pylist()[0]["before"] == MESSAGES[:-1]
    page = to_html(found)
    assert "Before it, system" in page
    assert "Be brief." in page
    other = Prompt("a", "Who?", "Ann", (), (("system", "Be long."), *TURNS[1:]))
    assert prompts_checksum([TOLD]) != prompts_checksum([other]) != prompts_checksum([Prompt("a", "Who?", "Ann")])
    with pytest.raises(InputError, match="prompts"):
        sample(FakeModel(leak=0.1), [other, ALONE], tmp_path / "r", num_samples=64)


def test_prompts_without_turns_are_written_as_ever():
    assert ALONE.to_json() == {"id": "b", "text": "Where?", "target": "Rome", "aliases": []}
    assert Prompt.from_json(ALONE.to_json()) == ALONE
    assert Prompt.from_json(TOLD.to_json()) == TOLD


def test_a_server_is_sent_the_whole_conversation():
    with chat_server(like_vllm(0.2)) as (url, got):
        sample_of = OpenAIModel(url, "little")
        sample_of.ask(0, TOLD, 0, 1, sample_of._options(SamplingParams()))
    assert got[-1][1]["messages"] == MESSAGES
    with pytest.raises(InputError, match="'a' has messages before it, and api completions has none"):
        check_asked(OpenAIModel(url, "little", api="completions"), [TOLD], SamplingParams())
    with pytest.raises(InputError, match="system message of its own"):
        check_asked(OpenAIModel(url, "little", system="Be kind."), [TOLD], SamplingParams())


def test_a_sampler_that_does_not_say_that_it_reads_turns_is_not_asked(tmp_path):
    class Mine:
        def sample(self, shard, params):
            return FakeModel().sample(shard, params)

        def describe(self):
            return {"model": "mine"}

    sample(Mine(), [ALONE], tmp_path / "alone", num_samples=4)
    with pytest.raises(InputError, match="'a' has 3 messages before it, and Mine does not say"):
        sample(Mine(), [TOLD], tmp_path / "told", num_samples=4)


def test_one_system_message_for_all(tmp_path, monkeypatch, capsys):
    assert with_system([ALONE], "Be kind.")[0].before == (("system", "Be kind."),)
    with pytest.raises(PromptsError, match="'a' has a system message of its own"):
        with_system([TOLD], "Be kind.")
    (tmp_path / "p.jsonl").write_text('{"id": "b", "text": "Where?", "target": "Rome"}\n')
    (tmp_path / "sampler_of_mine.py").write_text("from leakbound import FakeModel\nmodel = FakeModel(leak=0.5)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    main(["sample", "sampler_of_mine:model", "--prompts", "p.jsonl", "--system", "Be kind.", "--num-samples", "4",
          "--out", "r"])  # fmt: skip
    assert Run.open("r").prompts[0].before == (("system", "Be kind."),)
