import warnings

from tiny_models import tiny_model

from leakbound.unlearning.adapters import add_lora, checkpoint_activations
from leakbound.unlearning.trainer import piece_tokens


def test_adapters_and_activations_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = add_lora(tiny_model(), rank=2, alpha=4)
        checkpoint_activations(model)
        assert piece_tokens(model) > 0
