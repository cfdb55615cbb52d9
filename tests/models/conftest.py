import pytest
from tiny_models import word_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return word_tokenizer()
