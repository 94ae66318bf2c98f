"""Networks that answer questions about images and caption them, of the `transformers` library.

What such a network says is explained by the same engine as a class: the score is the logarithm of
a text's probability. `transformers` comes with the extra `camcli[language]` and is imported when a
model is loaded.
"""
