"""One engine a file: token ids in, events out."""
