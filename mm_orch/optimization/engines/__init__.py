"""The engines that compute, side by side behind one contract; each is a plug-in."""
