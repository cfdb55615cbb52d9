"""Does it matter whether what is unlearned is like what a model was trained on?"""
