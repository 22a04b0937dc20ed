"""What looks like an access token is found, and nothing else."""

import io
import logging

import pytest
from huggingface_hub.errors import HfHubHTTPError

from sp_hf.access_tokens import holds_token, keep_signatures_out_of_logs, without_queries
from sp_hf.data.sources import locate
from sp_hf.errors import DataError
from sp_hf.exit import report
from sp_hf.hub.failures import explain

TOKEN = "hf_" + "aB3" * 11 + "x"


@pytest.mark.parametrize("text", [TOKEN, f"token: {TOKEN}\n", f'"{TOKEN}"', f"https://user:{TOKEN}@huggingface.co"])
def test_tokens_are_found(text):
    assert holds_token(text)


@pytest.mark.parametrize("text", ["", "hf_hub_download(repo)", "sp_hf_evaluation_of_what_and_where", "hf_short1"])
def test_other_words_are_not(text):
    assert not holds_token(text)


def test_ones_own_token_is_found_whatever_it_looks_like():
    assert holds_token("key=abc", "abc") and not holds_token("key=abc", "xyz") and not holds_token("key=abc", "")


SIGNED = "https://s3.example.org/lfs/ab12?X-Amz-Expires=900&X-Amz-Signature=0123456789abcdef0123"


def test_signed_addresses_are_found_and_shortened():
    assert holds_token(f"dataset: {SIGNED}\n") and holds_token("https://x.blob.core.windows.net/a?sv=1&sig=abcdefgh123")
    assert not holds_token("https://huggingface.co/models?search=sig&sort=trending")
    said = without_queries(f"thrown while requesting PUT {SIGNED} (see https://hf.co/a?b=c).")
    assert said == "thrown while requesting PUT https://s3.example.org/lfs/ab12 (see https://hf.co/a)."
    assert without_queries("part-scenes?size=32, really?") == "part-scenes?size=32, really?"


def test_no_signature_reaches_stderr(monkeypatch):
    """Where huggingface_hub logs each attempt that failed, and what it was told, with the whole address."""
    stream, logger = io.StringIO(), logging.getLogger("huggingface_hub.utils._http")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        keep_signatures_out_of_logs()
        keep_signatures_out_of_logs()
        logger.warning("'%s' thrown while requesting %s %s", OSError("timed out"), "PUT", SIGNED)
        logger.warning("100 % of what? Nothing.")
    finally:
        logger.removeHandler(handler)
    assert "Signature" not in stream.getvalue() and "https://s3.example.org/lfs/ab12\n" in stream.getvalue()
    assert "100 % of what? Nothing." in stream.getvalue()
    assert len(logger.filters) == len(set(logger.filters))


@pytest.mark.parametrize("status", [400, 418, 503])
def test_no_signature_in_what_is_said_of_a_failure(status):
    client = HfHubHTTPError.__bases__[0].__module__.partition(".")[0]
    http = __import__(client)
    response = http.Response(status, request=http.Request("PUT", SIGNED))
    error = HfHubHTTPError(f"{status} Client Error for url: {SIGNED}", response=response)
    said = explain(error, "lab/model", "https://huggingface.co")
    assert str(status) in said and "Signature" not in said
    broken = ConnectionError(f"Max retries exceeded with url: {SIGNED}")
    assert "Signature" not in explain(broken, "lab/model", "https://huggingface.co")


def test_no_signature_in_what_a_command_ends_with(capsys):
    for error in (DataError(f"cannot read {SIGNED}"), KeyError(SIGNED)):  # one that can be mended, and a defect
        assert report(error) == (1 if isinstance(error, DataError) else 70)
        said = capsys.readouterr().err
        assert "https://s3.example.org/lfs/ab12" in said and "Signature" not in said


def test_a_signed_dataset_is_described_without_its_signature():
    source = locate("https://host/a/train.parquet?X-Amz-Signature=0123456789")
    assert source.description == "URL https://host/a/train.parquet" and "Signature" in source.arguments["data_files"]
