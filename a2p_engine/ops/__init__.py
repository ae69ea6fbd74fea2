"""Inner loops, each as a plain reference beside its fast form."""
