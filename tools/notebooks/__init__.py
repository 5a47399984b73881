"""Execute the chapters in one fixed environment, and find what is wrong with what they show."""
