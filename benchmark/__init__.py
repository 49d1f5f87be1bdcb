"""The headline benchmark: the paper's sizes beside WeNet and the machine's limits."""
