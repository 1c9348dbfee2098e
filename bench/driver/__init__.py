"""The parts of the benchmark; bench/run runs them."""
