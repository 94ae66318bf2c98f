"""Images from paths to input tensors.

In reading order: `geometry` (sizes, boxes and crops), `web` (files of web servers), `hub` (those of
Hugging Face's hub), `store_errors` and `store` (local and remote paths), `regular` (regular files
alone), `tars` (members of tars), `formats` (those that are read), `levels` (values of more than 8
bits), `convert` (Pillow's images to arrays), `memory` (a limit for decoded images), `decode` (files
to RGB pixels), `source` (an image and its name), `listing` (many of them in few bytes), `places`
(each once, below one folder), `find` (files and folders to a list of images), `select` (lists and
globs that narrow it down), `opencv` (the import of OpenCV), `preprocess` (pixels to a network's
input). Imports only `errors`.
"""
