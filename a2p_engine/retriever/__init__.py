"""From audio frames and a glossary to the probability that each term was spoken."""
