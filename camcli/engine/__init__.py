"""explain(): maps of methods and targets from one watched forward pass, and the model catalogue.

Read `explain`, `explanation` (its result), `inputs` and `predict` first. `references` embeds the
images of targets. `survey` finds the automatic layer of a network and the layouts of its layers.
`recommended` is the method of the name `auto`, and `suitability` tells whether a method fits.
`catalogue` lists networks and their layers.
`language/` explains networks that answer questions and write captions. May import capture, models,
render, methods, images and errors.
"""
