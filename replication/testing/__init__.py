"""For tests, here and of whoever adds a method: the laws that every method keeps, tiny models, a toy problem."""
