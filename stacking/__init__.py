"""Who decides, and how well; also the `birdstack` command, which stands above all rooms."""
