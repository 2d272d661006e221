"""From a data set's folder to a list of its cases: one file for each layout, and what layouts share."""
