"""The torch network, with WeNet's mathematics and WeNet's state_dict names, and its training."""
