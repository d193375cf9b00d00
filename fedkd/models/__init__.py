"""Teachers and students, and the one loop that trains them."""
