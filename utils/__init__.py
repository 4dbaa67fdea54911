"""One noun a file: recipe, boxes, seeds, files, run folders, drawing."""
