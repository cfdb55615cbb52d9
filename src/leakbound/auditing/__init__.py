"""One model, drawn from, scored and bounded: the steps from prompts to an audit, a certificate, a comparison."""
