"""One identity per person, from the tracklets of several cameras."""
