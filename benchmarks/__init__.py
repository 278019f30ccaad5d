"""Speed of the course's code beside its bare matrix products and beside its peers, in one run."""
