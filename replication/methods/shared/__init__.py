"""What methods are built from: attaching and detaching, finding blocks and projections, saving and loading."""
