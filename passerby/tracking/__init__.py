"""Tracklets of videos: tracks and frames in, the best crops and one vector per tracklet out."""

from passerby.tracking.settings import TrackletSettings
from passerby.tracking.writer import TrackletWriter

__all__ = ["TrackletSettings", "TrackletWriter"]
