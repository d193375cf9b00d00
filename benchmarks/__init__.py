"""What is measured beside other libraries."""
