"""Networks of the `transformers` library that answer questions about images and caption them.

`load` loads one, `network` scores texts with it, and `prompts` makes targets of questions, answers,
captions and words. The score of a text is the logarithm of its probability; `engine.explain`
explains it as it explains a class. `transformers` comes with the extra `camcli[transformers]`, and
is imported when a model is loaded.
"""
