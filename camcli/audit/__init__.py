"""Audit an output folder with true classes: what goes wrong, and does the network cheat?

In reading order: samples (read the rows and maps of a folder), classes (accuracy, confusions and
where the heat lies), groups (images that the network treats alike), candidates (heat at a fixed
place, or outside the objects), interventions (run the network on changed images), suspects,
conditions (limits that fail a check), record and tables.
May import evaluation, runs and below.
"""
