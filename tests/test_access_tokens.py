"""What looks like an access token is found, and nothing else."""

import pytest

from sp_hf.access_tokens import holds_token

TOKEN = "hf_" + "aB3" * 11 + "x"


@pytest.mark.parametrize("text", [TOKEN, f"token: {TOKEN}\n", f'"{TOKEN}"', f"https://user:{TOKEN}@huggingface.co"])
def test_tokens_are_found(text):
    assert holds_token(text)


@pytest.mark.parametrize("text", ["", "hf_hub_download(repo)", "sp_hf_evaluation_of_what_and_where", "hf_short1"])
def test_other_words_are_not(text):
    assert not holds_token(text)


def test_ones_own_token_is_found_whatever_it_looks_like():
    assert holds_token("key=abc", "abc") and not holds_token("key=abc", "xyz") and not holds_token("key=abc", "")
