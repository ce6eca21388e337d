"""What can be heard and placed, without labels: decoding and handcrafted features."""
