"""Files of rows become prompts, pairs and questions."""
