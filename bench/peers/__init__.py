"""What bench/compare is made of. inside/ runs in the environments of the peers; the rest needs only Python's own library."""
