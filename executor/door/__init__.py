"""The door: calls that agents outside of Halo make, put in order and sent to engines. It decides; drivers act."""
