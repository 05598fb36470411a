"""The tuner: finds kernels' schedules by measuring them on the machine that will run them."""
