"""The demo factory: a generator of product pictures with natural variation and known defects."""
