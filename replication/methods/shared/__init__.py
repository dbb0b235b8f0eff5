"""Building blocks of methods: attaching and detaching, finding blocks and projections, saving and loading."""
