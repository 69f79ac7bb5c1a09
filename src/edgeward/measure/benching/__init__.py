"""What a benchmark tells: its words, its pictures, its page and its folder."""
